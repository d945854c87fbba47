"""MariaDB: keys of bytes, as UUIDs often are, are shown as a UUID or as hexadecimal digits, and found by either."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from reaper.model import Outcome
from reaper.operations.purge import NullPurgeListener, PurgeOptions, purge
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, MINUTE, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

ALL_ZERO, PLAIN, TEXT = "00000000-0000-0000-0000-0000000000ff", "ffeeddcc-bbaa-0099-8877-665544332211", "41" * 16
PROFILE = """
jobs = { table = "j", key = "id", kind = "kind", status = "state", started = ["started"], running = { column = "state", in = ["running"] } }
alive = [{ witness = "events", events = { table = "e", job = "job", at = "at" } }]
purge = { where = [{ column = "state", in = ["failed"] }], at = ["started"], also = [{ delete = "e", match = { job = "id" } }] }

[actions.fail]
set = { state = "failed" }
also = [{ insert = "e", values = { job = { column = "id" }, at = { is = "now" }, said = { is = "evidence" } } }]
"""  # noqa: E501


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, "mariadb") as made:
        yield made


class Jobs:
    """Jobs and their events, with a key of this type."""

    def __init__(self, database: Database, key_type: str, mapped: Profile | None = None) -> None:
        self.database, self.source = (
            database,
            Source(
                "main", database.url, mapped or resolve("own", {"own": tomllib.loads(PROFILE)}), thresholds(), PATIENCE
            ),
        )
        with database.session(autocommit=True) as session:
            session.do(
                f"CREATE TABLE j (id {key_type} NOT NULL, part integer NOT NULL DEFAULT 7, kind varchar(20),"
                " state varchar(20), started datetime(6), PRIMARY KEY (id, part), UNIQUE (id))"
            )
            session.do(f"CREATE TABLE e (job {key_type} NOT NULL, at datetime(6), said longtext, KEY (job, at))")

    def add(self, digits: str, seen: float) -> None:
        ago = self.database.ago
        with self.database.session(autocommit=True) as session:
            session.do(f"INSERT INTO j VALUES (UNHEX(%s), 7, 'k', 'running', {ago})", digits, 9 * HOUR)
            session.do(f"INSERT INTO e VALUES (UNHEX(%s), {ago}, NULL)", digits, seen)

    def sweep(self) -> set[str]:
        """The keys of the jobs that were ended."""
        recorder = SweepRecorder()
        options = SweepOptions("test-host", 1000, Breaker(50, 1.0))
        report = sweep(self.source, DowntimeTracker(0), SourceState(), options, None, recorder)
        assert (report.outcome, report.error, report.failures, report.lost) == (Outcome.DONE, None, (), 0)
        return {"/".join(job.key) for job in recorder.reaped_jobs}

    def states(self) -> dict[str, str]:
        with self.database.session(autocommit=True) as session:
            return dict(session.ask("SELECT LOWER(HEX(id)), state FROM j ORDER BY id"))

    def found(self, *typed: str) -> tuple[str, ...] | None:
        with self.source.connect() as connection, self.source.transaction(connection, read_only=True):
            return self.source.lookup.find(connection, typed)


@pytest.mark.parametrize("key_type", ["BINARY(16)", "VARBINARY(16)"])
def test_jobs_with_uuids_of_sixteen_bytes_end_and_are_found(database: Database, key_type: str) -> None:
    jobs = Jobs(database, key_type)
    for key, seen in ((ALL_ZERO, 9 * HOUR), (PLAIN, MINUTE), (TEXT, 9 * HOUR)):
        jobs.add(key.replace("-", ""), seen)
    assert jobs.sweep() == {ALL_ZERO, "41414141-4141-4141-4141-414141414141"}
    assert jobs.states()[PLAIN.replace("-", "")] == "running"
    for typed in (PLAIN, PLAIN.upper(), PLAIN.replace("-", "")):
        assert jobs.found(typed) == (PLAIN,)
    assert jobs.found("no UUID") is None and jobs.found("ff") is None
    with jobs.source.connect() as connection, jobs.source.transaction(connection, read_only=True):
        [evidence] = jobs.source.lookup.audits(connection, (ALL_ZERO,))
    assert evidence["witness"] == "events"


def test_keys_of_other_lengths_are_hexadecimal_digits(database: Database) -> None:
    jobs = Jobs(database, "VARBINARY(20)")
    jobs.add("00ff", 9 * HOUR)
    jobs.add("00", 9 * HOUR)
    jobs.add("aa" * 16, MINUTE)
    assert jobs.sweep() == {"00ff", "00"}
    assert jobs.found("AA" * 16) == ("aa" * 16,)


def test_key_of_bytes_and_a_number_ends(database: Database) -> None:
    mapped = tomllib.loads(PROFILE)
    mapped["jobs"]["key"] = ["id", "part"]
    mapped["alive"][0]["events"] = {"table": "e", "match": {"job": "id"}, "at": "at"}
    jobs = Jobs(database, "BINARY(16)", resolve("own", {"own": mapped}))
    jobs.add(PLAIN.replace("-", ""), 9 * HOUR)
    jobs.add(ALL_ZERO.replace("-", ""), MINUTE)
    assert jobs.found(PLAIN, "7") == (PLAIN, "7")
    assert jobs.sweep() == {f"{PLAIN}/7"}


def test_finished_jobs_with_keys_of_bytes_are_purged_page_by_page(database: Database) -> None:
    jobs = Jobs(database, "BINARY(16)")
    for number in range(1, 6):
        jobs.add(f"{number:032x}", 9 * HOUR)
    assert len(jobs.sweep()) == 5
    with database.session(autocommit=True) as session:
        session.do("UPDATE j SET started = '2020-01-01'")
    report = purge(jobs.source, PurgeOptions(days_to_keep=1, batch_size=2, page_size=2), NullPurgeListener())
    assert (report.outcome, report.purged, jobs.states()) == (Outcome.DONE, 5, {})
