"""The last contact with each database is kept: rarely written, and bounded by age and number."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from reaper.database.connections import make_engine, transaction
from reaper.database.server_identity import database_address, read_server_identity
from reaper.memory import ContactStore, DatabaseContact, Memory
from reaper.memory import database_contacts as contacts_module
from reaper.memory.database_contacts import MAX_AGE_SECONDS, WRITE_SECONDS
from reaper.memory.memory import FILE
from reaper.memory.state_file import StateFile
from reaper.profile import resolve
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.mariadb import MariaDB
from tests.support.protea import PATIENCE, Protea, thresholds
from tests.sweep.test_unable_reaper import role, source_of


class Clock:
    """A clock that stands until it is moved, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def contact(source: str = "main", clock: str = "2026-01-01T00:00:00+00:00") -> DatabaseContact:
    downtime = (("2025-12-31T00:00:00+00:00", "2025-12-31T00:10:00+00:00"),)
    return DatabaseContact(source, "db.example:5432/jobs", clock, "7301", 1, 16384, 123456, clock, downtime)


def store(tmp_path: Path, clock: Clock) -> ContactStore:
    return ContactStore(StateFile(tmp_path / FILE), clock)


def count(tmp_path: Path) -> int:
    engine = create_engine(f"sqlite:///{tmp_path / FILE}")
    with engine.connect() as connection:
        number = int(connection.execute(text("SELECT count(*) FROM contact")).scalar_one())
    engine.dispose()
    return number


def age(tmp_path: Path, seconds: float) -> None:
    """Make every contact so much older."""
    engine = create_engine(f"sqlite:///{tmp_path / FILE}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE contact SET recorded_epoch = recorded_epoch - :seconds"), {"seconds": seconds})
    engine.dispose()


def test_newest_contact_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    clock = Clock()
    contacts = store(tmp_path, clock)
    for moment in ("2026-01-01", "2026-01-02"):
        contacts.record(contact(clock=moment))
        clock.now += WRITE_SECONDS
    assert store(tmp_path, clock).last("main", contact().database) == contact(clock="2026-01-02")
    assert count(tmp_path) == 1


def test_contacts_of_all_sources_are_written_together_and_not_more_often_than_promised(tmp_path: Path) -> None:
    clock = Clock()
    contacts = store(tmp_path, clock)
    for number in range(10):
        contacts.record(contact(f"source {number}"))
    assert count(tmp_path) == 1
    clock.now += WRITE_SECONDS
    contacts.record(contact("source 10"))
    assert count(tmp_path) == 11


def test_contact_is_due_again_only_after_some_seconds(tmp_path: Path) -> None:
    clock = Clock()
    contacts = store(tmp_path, clock)
    assert contacts.is_due("main", contact().database)
    contacts.record(contact())
    assert not contacts.is_due("main", contact().database) and contacts.is_due("main", "another")
    clock.now += WRITE_SECONDS
    assert contacts.is_due("main", contact().database)


def test_close_writes_what_waits(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    memory.contacts.record(contact("first"))
    memory.contacts.record(contact("second"))
    memory.close()
    assert count(tmp_path) == 2


def test_old_contacts_are_deleted(tmp_path: Path) -> None:
    clock = Clock()
    contacts = store(tmp_path, clock)
    contacts.record(contact("gone"))
    age(tmp_path, 60)
    clock.now += WRITE_SECONDS
    contacts.record(contact("kept"))
    age(tmp_path, MAX_AGE_SECONDS - 30)
    clock.now += WRITE_SECONDS
    contacts.record(contact("main"))
    assert count(tmp_path) == 2 and store(tmp_path, clock).last("gone", contact().database) is None


def test_oldest_contacts_beyond_the_greatest_number_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts_module, "MAX_CONTACTS", 5)
    clock = Clock()
    contacts = store(tmp_path, clock)
    for number in range(8):
        contacts.record(contact(f"source {number}"))
        age(tmp_path, 1)
        clock.now += WRITE_SECONDS
    assert count(tmp_path) == 5
    assert contacts.last("source 2", contact().database) is None
    assert contacts.last("source 3", contact().database) is not None


# --- what sweeps record -------------------------------------------------------------------------------------------


def swept(memory: Memory, source: Source) -> None:
    runner = SourceRunner(
        source,
        DowntimeTracker(0),
        RetrySchedule(60),
        Breaker(50, 0.5),
        1000,
        "test-host",
        [],
        contacts=memory.contacts,
    )
    assert runner.tick() is not None
    runner.stop()
    assert runner.join(10)


def test_sweep_records_the_clock_and_the_identity_of_postgresql(protea: Protea, tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    source = protea.source()
    before = protea.connection.execute("SELECT now()").fetchone()
    swept(memory, source)
    after = protea.connection.execute("SELECT clock_timestamp()").fetchone()
    server = protea.connection.execute(
        "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
    ).fetchone()
    recorded = memory.contacts.last("main", database_address(source.engine))
    assert recorded is not None and before is not None and after is not None
    assert (recorded.system_identifier, recorded.timeline) == server
    assert before[0] <= datetime.fromisoformat(recorded.clock) <= after[0]


def test_address_of_a_database_holds_no_user_and_no_password() -> None:
    engine = make_engine("postgresql+psycopg://ada:secret@db.example:5433/jobs?sslmode=require", "main", PATIENCE)
    assert database_address(engine) == "db.example:5433/jobs"


def test_role_that_may_not_read_the_identity_records_the_clock_alone(protea: Protea, tmp_path: Path) -> None:
    protea.connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    memory, rights = Memory.open(tmp_path), "SELECT, UPDATE ON job, job_event"
    with role(protea, rights) as url:
        source = source_of(url)
        swept(memory, source)
        contact_now = memory.contacts.last("main", database_address(source.engine))
    assert contact_now is not None and contact_now.clock
    assert (contact_now.system_identifier, contact_now.timeline, contact_now.wal_position) == (None, None, None)


def test_trouble_with_the_state_file_fails_no_sweep(protea: Protea, tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    job = protea.stale()
    swept(Memory.open(tmp_path), protea.source())
    assert protea.status(job) == "failed"


def test_mariadb_has_no_identity_that_tells_it_from_a_copy(mariadb: MariaDB, tmp_path: Path) -> None:
    url = mariadb.create_database("identity", Path("reaper/profiles/protea.mariadb.sql"))
    source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
    with source.connect() as connection, transaction(connection, PATIENCE, read_only=True):
        assert read_server_identity(connection) is None
    memory = Memory.open(tmp_path)
    swept(memory, source)
    contact_now = memory.contacts.last("main", database_address(source.engine))
    mariadb.drop_database("identity")
    assert contact_now is not None and contact_now.clock.endswith("+00:00")
    assert contact_now.system_identifier is None
