"""A column without a zone whose moments are known not to be in UTC ends no job: its moments are unknown.

The catalog shows it, where the server fills the column in another zone; else three jobs whose signs of life move beside
one offset from the database's clock prove it. One row proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from reaper.check import Finding, Level, examine
from reaper.common import messages
from reaper.memory import LocalColumnStore
from reaper.memory.state_file import StateFile
from reaper.model import SweepReport, Verdict
from reaper.observers.daemon_log import DaemonLog
from reaper.observers.metrics import Metrics
from reaper.observers.status import Status
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.source.local_time_proof import LocalLook
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from tests.support.checks import STALL, connected, problems
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on, mostly_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG
ZONES = {"postgresql": "America/New_York", "mariadb": "-05:00"}
TABLE = {
    "postgresql": "CREATE TABLE jobs (id serial PRIMARY KEY, state text NOT NULL, started_at timestamp NOT NULL DEFAULT"
    " now(), heartbeat_at timestamp DEFAULT CURRENT_TIMESTAMP, beat_utc timestamp)",
    "mariadb": "CREATE TABLE jobs (id int PRIMARY KEY AUTO_INCREMENT, state varchar(20) NOT NULL, started_at datetime"
    " NOT NULL DEFAULT current_timestamp(), heartbeat_at datetime NULL ON UPDATE current_timestamp(),"
    " beat_utc datetime NULL)",
}
PROFILE: dict[str, Any] = {
    "alive": [{"witness": "heartbeat", "column": "heartbeat_at"}],
    "jobs": {"table": "jobs", "key": "id", "started": "started_at", "running": {"column": "state", "in": ["working"]}},
    "actions": {"fail": {"set": {"state": "dead"}}},
}


# --- what the catalog shows --------------------------------------------------------------------------------------


@dataclass
class Shop:
    """A table that the server fills in its own zone, which is not UTC."""

    tasks: Tasks
    where: str

    @property
    def zone(self) -> str:
        return ZONES[self.where]

    def profile(self, **changes: Any) -> Profile:
        return resolve("shop", {"shop": {**PROFILE, **changes}})

    def checked(self, profile: Profile) -> list[Finding]:
        with connected(self.tasks.database.url) as connection:
            found = problems(examine(connection, profile, STALL))
            return [finding for finding in found if "has no time zone" in finding.message]

    def states(self) -> list[str]:
        return [state for (state,) in self.tasks.session.ask("SELECT state FROM jobs ORDER BY id")]


@pytest.fixture(params=["postgresql", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """Two jobs that were alive two seconds ago: one 2 h old, one 9 h old."""
    with database_on(request, request.param) as database, tasks_in(database) as tasks:
        session, where = tasks.session, request.param
        session.do(TABLE[where])
        if where == "mariadb":
            before = session.one("SELECT @@global.time_zone")
            session.do(f"SET GLOBAL time_zone = '{ZONES[where]}'")
            session.do(f"SET SESSION time_zone = '{ZONES[where]}'")
        else:
            name = session.one("SELECT current_database()")
            session.do(f"ALTER DATABASE \"{name}\" SET timezone = '{ZONES[where]}'")
            session.do(f"SET timezone = '{ZONES[where]}'")
        ago = "now() - interval {} second" if where == "mariadb" else "localtimestamp - interval '{} s'"
        for seconds in (7200, 32400):
            utc = "utc_timestamp()" if where == "mariadb" else "timezone('UTC', now())"
            values = f"'working', {ago.format(seconds)}, {ago.format(2)}, {utc}"
            session.do(f"INSERT INTO jobs (state, started_at, heartbeat_at, beat_utc) VALUES ({values})")
        yield Shop(tasks, where)
        if where == "mariadb":
            session.do(f"SET GLOBAL time_zone = '{before}'")


def test_sweep_ends_nothing_by_columns_that_the_server_fills_in_another_zone(shop: Shop) -> None:
    tasks, source = shop.tasks, shop.tasks.source(shop.profile(time="naive"))
    report = tasks.sweep(source)
    assert (report.error, report.reaped) == (None, 0)
    assert shop.states() == ["working", "working"]
    assert [why.partition(" has no time zone")[0] for why in report.unknown_moments] == [
        "jobs.started_at",
        "jobs.heartbeat_at",
    ]
    assert shop.zone in report.unknown_moments[0]
    assert tasks.sweep(tasks.source(shop.profile(time="naive", alive=[]))).reaped == 0, "by the start alone"
    metrics = Metrics()
    metrics.set_sources([report.source], 60)
    metrics.swept(report)
    name, labels = "reaper_columns_with_unknown_moments", {"source": report.source}
    assert metrics.registry.get_sample_value(name, labels) == 2
    metrics.swept(replace(report, unknown_moments=()))
    assert metrics.registry.get_sample_value(name, labels) == 0
    status = Status()
    status.set_sources([report.source], 60)
    status.swept(report)
    assert status.problems() == {report.source: list(report.unknown_moments)}
    with capture_logs() as log:
        daemon_log = DaemonLog()
        daemon_log.swept(report)
        daemon_log.swept(report)
        daemon_log.swept(replace(report, unknown_moments=()))
    said = [(line["log_level"], line.get("columns")) for line in log if "column" in line["event"]]
    assert said == [("warning", report.unknown_moments), ("info", None)]
    tasks.session.do("INSERT INTO jobs (state) VALUES ('working')")
    explained = tasks.explained("2", source=source)["2"]
    assert explained.verdict is SPARED and "jobs.started_at has no time zone" in (explained.unknown or "")
    assert messages.describe_outlook(explained) == f"when it becomes stale is unknown: {explained.unknown}"
    assert messages.format_stale_in(explained) == "unknown"
    for job in tasks.explained("1", "2", "3", source=source).values():
        assert {job.age_seconds, job.silence_seconds, job.last_sign, job.witness, *job.signs.values()} == {None}
        why = messages.describe_verdict(job)
        assert why.startswith("running for an unknown time") and f"{job.unknown}" in why
        assert messages.format_known_duration(job, job.age_seconds) == "unknown"


def test_jobs_are_judged_once_the_zone_is_said(shop: Shop) -> None:
    tasks, source = shop.tasks, shop.tasks.source(shop.profile(time={"naive": shop.zone}))
    explained = tasks.explained("1", "2", source=source)
    assert [explained[key].verdict for key in "12"] == [YOUNG, SPARED]
    assert explained["1"].age_seconds == pytest.approx(7200, abs=60)
    ago = "now() - interval 3600 second" if shop.where == "mariadb" else "localtimestamp - interval '1 h'"
    tasks.session.do(f"UPDATE jobs SET heartbeat_at = {ago}")
    report = tasks.sweep(source)
    assert (report.unknown_moments, report.reaped) == ((), 1)
    assert shop.states() == ["working", "dead"]


def test_check_names_the_columns_with_the_lines_that_say_the_zone(shop: Shop) -> None:
    found = shop.checked(shop.profile(time="naive"))
    assert [(finding.level, finding.subject) for finding in found] == [
        (Level.ERROR, "jobs.started_at"),
        (Level.ERROR, "jobs.heartbeat_at"),
    ]
    assert shop.zone in found[0].message and "so its moments are not in UTC" in found[0].message
    assert f'times."jobs.started_at".naive = "{shop.zone}"' in (found[0].fix or "")
    said = {f"jobs.{name}": {"naive": shop.zone} for name in ("started_at", "heartbeat_at")}
    assert shop.checked(shop.profile(times=said)) == []
    assert shop.checked(shop.profile(time={"naive": "UTC"})) == []
    assert shop.checked(shop.profile(time="naive").in_zone(shop.zone)) == []


def test_column_that_a_program_fills_is_a_warning_and_is_read_as_utc(shop: Shop) -> None:
    alive = [{"witness": "heartbeat", "column": "beat_utc"}]
    profile = shop.profile(time="naive", times={"jobs.started_at": {"naive": shop.zone}}, alive=alive)
    [finding] = shop.checked(profile)
    assert (finding.level, finding.subject) == (Level.WARNING, "jobs.beat_utc")
    assert "is read as UTC; a program fills it" in finding.message
    assert shop.tasks.sweep(shop.tasks.source(profile)).unknown_moments == ()


# --- what signs of life prove ------------------------------------------------------------------------------------

WITNESSES = [
    {"witness": "heartbeat", "column": "beat"},
    {"witness": "log", "events": {"table": "beat_log", "job": "task_id", "at": "at"}},
]


@dataclass
class Local:
    """Tasks whose moments have no zone, and a reaper that looks at them."""

    tasks: Tasks
    file: StateFile
    memory: SourceState
    zone: str = "America/New_York"

    def put(self, number: int, *, hours: float, beat: str | None, log: str | None = None) -> None:
        """A task that is so many hours old in UTC, and is alive by the clock of a zone."""
        now = self.tasks.now()

        def shown(zone: str | None) -> Any:
            return None if zone is None else now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

        started = (now - timedelta(hours=hours)).replace(tzinfo=None)
        self.tasks.session.do(
            "INSERT INTO task (id, kind, state, started, beat) VALUES (%s, 'embed', 'working', %s, %s)",
            number,
            started,
            shown(beat),
        )
        if log is not None:
            self.tasks.session.do("INSERT INTO beat_log VALUES (%s, %s)", number, shown(log))

    def child(self, number: int, parent: int, zone: str, *, age: float = 0) -> None:
        """A task that has ended, `age` seconds ago by the clock of a zone; a witness of its parent."""
        due = (self.tasks.now() - timedelta(seconds=age)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        row = "INSERT INTO task (id, kind, state, tries, due) VALUES (%s, 'embed', 'over', %s, %s)"
        self.tasks.session.do(row, number, parent, due)

    def lease(self, number: int, zone: str | None, *, left: float = 300, hours: float = 9) -> None:
        """A task that is so many hours old in UTC, whose lease ends in `left` seconds by the clock of a zone."""
        self.put(number, hours=hours, beat=None)
        end = (self.tasks.now() + timedelta(seconds=left)).astimezone(ZoneInfo(zone or "UTC")).replace(tzinfo=None)
        self.tasks.session.do("UPDATE task SET due = %s WHERE id = %s", None if zone is None else end, number)

    def source(self, **changes: Any) -> Source:
        source = self.tasks.source(mapped(**{"time": "naive", "alive": WITNESSES, **changes}))
        source.options = replace(source.options, local_columns=LocalColumnStore(self.file))
        return source

    def look(self, *, moved: bool = True, seconds: float = 70, **changes: Any) -> SweepReport:
        """A sweep; the look before it was so long ago, and since then the signs have moved."""
        if (before := self.memory.local_look) is not None:
            earlier = {
                column: {key: sign - seconds * moved for key, sign in signs.items()}
                for column, signs in before.signs.items()
            }
            ends = {
                column: {key: end - seconds * moved for key, end in of_jobs.items()}
                for column, of_jobs in before.leases.ends.items()
            }
            leases = replace(before.leases, at=before.at - seconds, ends=ends)
            self.memory.local_look = LocalLook(before.at - seconds, earlier, leases)
        self.memory.next_future_look = 0
        report = self.tasks.sweep(self.source(**changes), memory=self.memory)
        assert (report.error, report.future_signs_trouble) == (None, None)
        return report


@pytest.fixture(params=["postgresql", "mariadb"])
def local(request: pytest.FixtureRequest) -> Iterator[Local]:
    with database_on(request, request.param) as database, tasks_in(database) as tasks:
        tasks.without_zones()
        yield Local(tasks, StateFile(None), SourceState())


def test_three_jobs_whose_signs_move_beside_one_offset_prove_local_time(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=5.5, beat=local.zone)
    local.put(4, hours=5.5, beat=None)
    local.look()
    [why] = local.look().unknown_moments
    assert why.startswith("task.beat is not in UTC: ")
    assert "-05:00 away from the database's clock" in why or "-04:00 away" in why
    older = "started - interval 1 hour" if local.tasks.mariadb else "started - interval '1 hour'"
    local.tasks.session.do(f"UPDATE task SET started = {older}")
    assert local.tasks.verdicts(local.source()) == {**dict.fromkeys("123", SPARED), "4": STALE}
    said = local.tasks.explained("1", source=local.source())["1"].unknown
    assert said == why
    # Another process knows it from the file; the rest is judged.
    assert local.look().reaped == 1
    assert local.tasks.verdicts(local.source(time={"naive": local.zone}))["1"] is YOUNG


def test_first_look_ends_no_job_by_signs_that_may_be_in_local_time(local: Local) -> None:
    """Before the second look nothing is proven: a sweep at the start would end the living."""
    for number in (1, 2, 3):
        local.put(number, hours=9, beat=local.zone)
    local.put(4, hours=9, beat=None)
    options = SweepOptions("test-host", 1000, Breaker(50, 1.0), dry_run=True)
    preview = local.tasks.sweep(local.source(), options=options)
    assert [job.key for job in preview.would_reap] == [("4",)]
    assert local.tasks.verdicts(local.source()) == dict.fromkeys("1234", STALE), "a dry run remembers nothing"
    report = local.look()
    [why] = report.unknown_moments
    assert why.startswith("task.beat may not be in UTC: ") and "until a look 60 s later" in why
    assert report.reaped == 1
    # Another process, or the next sweep before the second look, knows it too.
    assert local.tasks.explained("1", source=local.source())["1"].unknown == why
    assert local.tasks.sweep(local.source(), memory=local.memory).reaped == 0
    [why] = local.look().unknown_moments
    assert why.startswith("task.beat is not in UTC: ")
    assert local.tasks.states() == {**dict.fromkeys("123", "working"), "4": "dead"}


def test_signs_that_do_not_move_until_the_second_look_are_silence(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=9, beat=local.zone)
    assert local.look().reaped == 0
    report = local.look(moved=False)
    assert (report.unknown_moments, report.reaped) == ((), 3)


@pytest.mark.parametrize("zones", [("UTC", "UTC", "UTC"), ("America/New_York", "America/New_York", "Asia/Kolkata")])
def test_first_look_doubts_no_column_without_three_jobs_beside_one_offset(local: Local, zones: tuple[str, ...]) -> None:
    for number, zone in enumerate(zones, 1):
        local.put(number, hours=1, beat=zone)
    assert local.look().unknown_moments == ()


def test_signs_in_a_log_prove_it_too_and_only_for_their_column(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=1, beat="UTC", log="Asia/Kolkata")
    local.look()
    [why] = local.look().unknown_moments
    assert why.startswith("beat_log.at is not in UTC: ") and "+05:30 away" in why


LEASE = [{"witness": "lease", "deadline": "due"}]


def test_leases_that_are_renewed_to_moments_in_the_past_prove_local_time(local: Local) -> None:
    """Their length is not known, so that no offset shows. Until two looks have shown it, the living are left alone."""
    for number in (1, 2, 3):
        local.lease(number, local.zone)
    local.lease(4, None)
    report = local.look(alive=LEASE)
    [why] = report.unknown_moments
    assert why.startswith("task.due may not be in UTC: leases in it ended long ago")
    assert report.reaped == 1 and local.tasks.states() == {**dict.fromkeys("123", "working"), "4": "dead"}
    [why] = local.look(alive=LEASE, moved=False).unknown_moments
    assert why.startswith("task.due may not be in UTC"), "leases that stand still prove nothing"
    [why] = local.look(alive=LEASE).unknown_moments
    assert why.startswith("task.due is not in UTC: leases of several jobs have been renewed")
    source = local.source(alive=LEASE)
    verdicts = local.tasks.verdicts(source)
    assert {verdicts[key] for key in "123"} == {SPARED}
    assert local.tasks.explained("1", source=source)["1"].unknown == why
    said = local.source(alive=LEASE, times={"task.due": {"naive": local.zone}})
    assert local.tasks.verdicts(said)["1"] is SPARED and local.tasks.explained("1", source=said)["1"].unknown is None
    assert local.look(alive=LEASE, moved=False).reaped == 0, "it stays proven"
    # A lease that has been over for twelve hours is over in every zone.
    for number, left in ((1, -11.9), (2, -12.1), (3, -12.6)):
        local.tasks.session.do("DELETE FROM task WHERE id = %s", number)
        local.lease(number, "UTC", left=left * 3600, hours=20)
    assert local.tasks.verdicts(source) == {"1": SPARED, "2": SPARED, "3": STALE, "4": Verdict.ENDED}
    assert local.look(alive=LEASE, moved=False).reaped == 1


def test_leases_of_three_jobs_that_have_not_ended_show_utc(local: Local) -> None:
    for number in (1, 2, 3):
        local.lease(number, "UTC")
    local.lease(4, "UTC", left=-5 * 3600)
    report = local.look(alive=LEASE)
    assert (report.unknown_moments, report.reaped) == ((), 1)
    local.tasks.session.do("UPDATE task SET state = 'over'")
    local.lease(5, "UTC", left=-5 * 3600)
    assert local.look(alive=LEASE).reaped == 1, "it is remembered"
    assert local.tasks.explained("5", source=local.source(alive=LEASE))["5"].unknown is None


@mostly_on("postgresql", "local")
def test_one_lease_that_has_not_ended_or_two_show_nothing_and_three_one_after_the_other_do(local: Local) -> None:
    local.lease(1, local.zone)
    for number in (2, 3):
        local.lease(number, "UTC")
    for _ in range(2):
        report = local.look(alive=LEASE)
        [why] = report.unknown_moments
        assert report.reaped == 0 and why.startswith("task.due may not be in UTC")
    local.tasks.session.do("UPDATE task SET state = 'over' WHERE id = 2")
    local.lease(4, "UTC")
    report = local.look(alive=LEASE)
    assert (report.reaped, report.unknown_moments) == (1, ())


@mostly_on("postgresql", "local")
def test_column_of_leases_in_local_time_is_known_again_once_three_are_renewed_to_moments_that_are_to_come(
    local: Local,
) -> None:
    for number in (1, 2, 3):
        local.lease(number, local.zone)
    local.look(alive=LEASE)
    assert len(local.look(alive=LEASE).unknown_moments) == 1
    local.tasks.session.do("UPDATE task SET state = 'over'")
    for number in (4, 5, 6):
        local.lease(number, "UTC")
    assert len(local.look(alive=LEASE).unknown_moments) == 1
    assert local.look(alive=LEASE).unknown_moments == ()


@mostly_on("postgresql", "local")
def test_each_column_of_an_event_table_with_several_is_proven_by_itself(local: Local) -> None:
    moment = "datetime(6)" if local.tasks.mariadb else "timestamp"
    local.tasks.session.do(f"ALTER TABLE beat_log ADD seen {moment} NULL")
    for number in (1, 2, 3):
        local.put(number, hours=9, beat=None, log=None)
        old, seen = local.tasks.now() - timedelta(hours=9.1), local.tasks.now().astimezone(ZoneInfo(local.zone))
        row = old.replace(tzinfo=None), seen.replace(tzinfo=None)
        local.tasks.session.do("INSERT INTO beat_log VALUES (%s, %s, %s)", number, *row)
    log = [{"witness": "log", "events": {"table": "beat_log", "job": "task_id", "at": ["at", "seen"]}}]
    report = local.look(alive=log)
    assert report.reaped == 0 and "beat_log.seen may not be in UTC" in " ".join(report.unknown_moments)
    [why] = local.look(alive=log).unknown_moments
    assert why.startswith("beat_log.seen is not in UTC")
    assert {each.verdict for each in local.tasks.explained(*"123", source=local.source(alive=log)).values()} == {SPARED}


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_hostile_row_or_two_prove_nothing(local: Local, jobs: int) -> None:
    for number in range(1, 6):
        local.put(number, hours=1, beat=local.zone if number <= jobs else "UTC")
    local.look()
    assert local.look().unknown_moments == local.look().unknown_moments == ()


def test_signs_that_stand_still_and_different_offsets_prove_nothing(local: Local) -> None:
    for number, zone in enumerate((local.zone, local.zone, "Europe/Berlin", "Europe/Berlin", "Asia/Kolkata"), 1):
        local.put(number, hours=1, beat=zone)
    local.put(6, hours=1, beat=local.zone)
    local.look(moved=False)
    assert local.look(moved=False).unknown_moments == ()
    local.tasks.session.do("UPDATE task SET state = 'over' WHERE id = 6")
    assert local.look().unknown_moments == ()


def test_looks_at_short_intervals_prove_nothing(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=1, beat=local.zone)
    local.look()
    [why] = local.look(seconds=30).unknown_moments
    assert why.startswith("task.beat may not be in UTC: ")


def test_signs_that_are_only_old_prove_nothing(local: Local) -> None:
    """Three jobs that died together a quarter of an hour ago, and looks that are half an hour apart."""
    for number in (1, 2, 3):
        local.put(number, hours=1, beat="UTC")
    quarter = "beat - interval 900 second" if local.tasks.mariadb else "beat - interval '900 s'"
    local.tasks.session.do(f"UPDATE task SET beat = {quarter}")
    local.look()
    assert local.look(seconds=1800).unknown_moments == ()


def test_proof_is_taken_back_when_the_signs_are_in_utc(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=1, beat=local.zone)
    local.look()
    assert local.look().unknown_moments
    utc = "utc_timestamp(6)" if local.tasks.mariadb else "timezone('UTC', clock_timestamp())"
    local.tasks.session.do(f"UPDATE task SET beat = {utc}")
    local.look()
    assert local.look().unknown_moments == ()


CHILDREN: dict[str, Any] = {"alive": [{"witness": "child", "children": {"parent": "tries", "at": ["due", "made"]}}]}


def test_signs_of_children_prove_it_too_one_child_of_each_of_three_jobs(local: Local) -> None:
    for number in (1, 2, 3):
        local.put(number, hours=5.5, beat=None)
        local.child(10 + number, number, "Asia/Kolkata")
        # An older child of the same job, and one whose own clock is in UTC, change nothing.
        local.child(20 + number, number, "Asia/Kolkata", age=4000)
        local.child(30 + number, number, "UTC", age=300)
    local.look(**CHILDREN)
    [why] = local.look(**CHILDREN).unknown_moments
    assert why.startswith("task.due is not in UTC: ") and "+05:30 away" in why
    older = "started - interval 1 hour" if local.tasks.mariadb else "started - interval '1 hour'"
    local.tasks.session.do(f"UPDATE task SET started = {older}")
    verdicts = local.tasks.verdicts(local.source(**CHILDREN))
    assert [verdicts[number] for number in "123"] == [SPARED] * 3


def test_many_children_of_two_jobs_prove_nothing(local: Local) -> None:
    for number in (1, 2):
        local.put(number, hours=1, beat=None)
        for child in range(4):
            local.child(10 * number + child, number, "Asia/Kolkata")
    local.put(3, hours=1, beat=None)
    # The child of a job that has ended, and a job that is its own parent.
    local.child(40, 41, "Asia/Kolkata")
    shown = local.tasks.now().astimezone(ZoneInfo("Asia/Kolkata")).replace(tzinfo=None)
    local.tasks.session.do("UPDATE task SET tries = 3, due = %s WHERE id = 3", shown)
    local.look(**CHILDREN)
    local.look(**CHILDREN)


def test_moments_that_the_reaper_wrote_to_children_take_no_proof_back(local: Local) -> None:
    profile = {**CHILDREN, "actions": {"fail": {"set": {"state": "dead", "due": {"is": "now"}}, "also": []}}}
    for number in (1, 2, 3):
        local.put(number, hours=1, beat=None)
        local.child(10 + number, number, local.zone)
    local.look(**profile)
    assert local.look(**profile).unknown_moments
    utc = "utc_timestamp(6)" if local.tasks.mariadb else "timezone('UTC', clock_timestamp())"
    local.tasks.session.do(f"UPDATE task SET due = {utc}, state = 'dead' WHERE id > 10")
    local.look(**profile)
    assert local.look(**profile).unknown_moments
    # What only workers write does.
    local.look(**CHILDREN)
    local.look(**CHILDREN)
