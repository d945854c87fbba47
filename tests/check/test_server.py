"""`reaper check`: the server, its timeouts and its clock."""

from __future__ import annotations

import os

import pytest

from reaper.catalog.session import Unsuitable, check_postgresql_version
from reaper.check import Level
from reaper.dev.postgres import temporary
from tests.support.checks import create_guest, execute, guest_url, only_problem, problems, run_check


@pytest.mark.thorough
def test_read_only_role_is_an_error(database: str) -> None:
    script = [
        "ALTER ROLE guest SET default_transaction_read_only = on",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    role = create_guest(database, *script)
    finding = only_problem(run_check(role))
    assert (finding.level, finding.subject) == (Level.ERROR, "server")
    assert finding.message.startswith("default_transaction_read_only is on for the role 'guest'")
    execute(database, finding.fix)
    assert problems(run_check(role)) == []


def test_standby_is_an_error() -> None:
    with temporary() as primary:
        url = primary.create_database("protea")
        primary.stop()
        signal = primary.data / "standby.signal"
        signal.touch()
        os.chown(signal, primary.data.stat().st_uid, primary.data.stat().st_gid)
        primary.start()
        finding = only_problem(run_check(url))
    assert (finding.level, finding.subject) == (Level.ERROR, "server")
    assert finding.message == "is a standby in recovery: nothing can be written there; connect to the primary"


def test_short_timeouts_of_the_role_are_reported(database: str) -> None:
    script = [
        "ALTER ROLE guest SET statement_timeout = '5s'",
        "ALTER ROLE guest SET transaction_timeout = '7s'",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    findings = run_check(create_guest(database, *script))
    timeouts = {(f.level, f.message) for f in findings if "timeout of the role" in f.message}
    assert timeouts == {
        (
            Level.NOTE,
            "statement_timeout of the role 'guest' is 5 s; the reaper sets its own in each of its transactions",
        ),
        (Level.WARNING, "transaction_timeout of the role 'guest' is 7 s: a longer survey is cut off"),
    }
    for finding in findings:
        if "timeout of the role" in finding.message:
            execute(database, finding.fix)
    assert problems(run_check(guest_url(database))) == []


def test_clock_that_differs_from_the_host_is_a_note(database: str) -> None:
    findings = run_check(database, host_clock=lambda: 0.0)
    assert problems(findings) == []
    assert any("ahead of this host's; only the database's clock decides" in f.message for f in findings)


def test_server_that_is_too_old_is_unsuitable() -> None:
    with pytest.raises(Unsuitable) as unsuitable:
        check_postgresql_version((11, 22))
    assert unsuitable.value.subject == "server"
    assert str(unsuitable.value) == "is PostgreSQL 11.22; PostgreSQL 12 or later is needed, so nothing else was checked"
    check_postgresql_version((12, 0))
