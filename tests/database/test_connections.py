"""The cached connection of a source: used again by the next sweep if its server still answers."""

from __future__ import annotations

import pytest

from reaper.database import connections
from reaper.errors import DatabaseUnavailable
from reaper.model import Outcome
from reaper.profile import resolve
from reaper.source import Source
from tests.support.protea import PATIENCE, Protea, thresholds
from tests.support.waiting import wait_until

SESSIONS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'reaper/main' ORDER BY pid
"""


def sessions(protea: Protea) -> list[int]:
    return [pid for (pid,) in protea.connection.execute(SESSIONS)]


def one_session(protea: Protea) -> int:
    """The only session that stays when the others are closed."""
    wait_until(lambda: len(sessions(protea)) == 1, "one session")
    return sessions(protea)[0]


def test_server_counts_as_started_when_it_takes_changes(protea: Protea) -> None:
    """A recovery, during which nothing can be written, ends some time after the server's first process has started."""
    query = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'walwriter'"
    [(writable_since,)] = protea.connection.execute(query).fetchall()
    source = protea.source()
    with source.connect() as connection, source.transaction(connection):
        assert connections.read_server_clock(connection).server_started == writable_since


def test_sweep_uses_the_connection_of_the_last_one(protea: Protea) -> None:
    source = protea.source()
    protea.sweep(source)
    before = one_session(protea)
    job = protea.stale()
    assert protea.sweep(source).reaped == 1
    assert protea.status(job) == "failed"
    assert one_session(protea) == before


def test_connection_that_the_server_ended_is_replaced_silently(protea: Protea) -> None:
    source = protea.source()
    protea.sweep(source)
    before = one_session(protea)
    protea.connection.execute("SELECT pg_terminate_backend(%s)", [before])
    protea.stale()
    report = protea.sweep(source)
    assert (report.outcome, report.reaped, report.error) == (Outcome.DONE, 1, None)
    assert one_session(protea) != before


def test_connections_are_replaced_before_they_are_old(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    source = protea.source()
    protea.sweep(source)
    before = one_session(protea)
    monkeypatch.setattr(connections, "_MAX_AGE_SECONDS", 0.0)
    protea.sweep(source)
    assert one_session(protea) != before


def test_connection_is_not_kept_after_an_error(protea: Protea) -> None:
    source = protea.source()
    with pytest.raises(ZeroDivisionError), source.cached_connection():
        raise ZeroDivisionError
    wait_until(lambda: sessions(protea) == [], "no session is left")


def test_two_users_at_a_time_have_a_connection_each_and_one_is_kept(protea: Protea) -> None:
    source = protea.source()
    with source.cached_connection() as one, source.cached_connection() as other:
        assert one.connection.driver_connection is not other.connection.driver_connection
    one_session(protea)


def test_dropped_source_leaves_no_session_behind(protea: Protea) -> None:
    source: Source | None = protea.source()
    assert source is not None
    protea.sweep(source)
    one_session(protea)
    del source
    wait_until(lambda: sessions(protea) == [], "no session is left")


def test_unreachable_database_is_unavailable(protea: Protea) -> None:
    source = Source("main", protea.url.replace("?", "_not?"), resolve("protea"), thresholds(), PATIENCE)
    with pytest.raises(DatabaseUnavailable, match="does not exist"), source.cached_connection():
        pass
