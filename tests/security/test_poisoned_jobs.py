"""Jobs that the database refuses to end delay no other job, cost a bounded time, and are said once, on both servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from reaper.memory import Memory
from reaper.model import JobCounts, Outcome, PurgeReport, ReapedJob, SweepReport
from reaper.observers.daemon_log import DaemonLog
from reaper.source import Source
from reaper.sweep import batch_runner
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.refused_jobs import FIRST_PAUSE_SECONDS, MAX_TRIED_AGAIN, RefusedJobs
from reaper.sweep.source_state import SourceState
from tests.support.protea import HOUR, SweepRecorder
from tests.support.tasks import Tasks, tasks_in
from tests.support.worlds.servers import database_on, mostly_on

OPTIONS = SweepOptions("test-host", 200, Breaker(50, 1.0))


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def add(tasks: Tasks, numbers: Sequence[int], kind: str) -> None:
    """Stale tasks with these numbers, which is the order in which the tables have them."""
    rows = ", ".join(f"({n}, '{kind}', 'working', {tasks.database.ago}, {tasks.database.ago})" for n in numbers)
    ages = [9 * HOUR] * (2 * len(numbers))
    tasks.session.do(f"INSERT INTO task (id, kind, state, started, beat) VALUES {rows}", *ages)


def refuse(tasks: Tasks, how: str) -> None:
    """From now on the database refuses to end tasks of the kind 'bad', in one of several ways."""
    if how == "a check":
        tasks.session.do("ALTER TABLE task ADD CONSTRAINT never CHECK (kind <> 'bad' OR state <> 'dead')")
    elif tasks.mariadb:
        body = {
            "raises": "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'",
            "puts back": "SET NEW.state = OLD.state",
        }[how]
        tasks.session.do(
            f"CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW IF OLD.kind = 'bad' THEN {body}; END IF"
        )
    else:
        body = {"raises": "RAISE EXCEPTION 'not this one: %', OLD.id", "puts back": "RETURN NULL"}[how]
        tasks.session.do(
            f"CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF OLD.kind = 'bad' THEN {body}; END IF; RETURN NEW; END $$"
        )
        tasks.session.do("CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION poison()")


class Sweeps:
    """Sweeps of one source one after the other, and how many transactions each took."""

    def __init__(self, tasks: Tasks, refused_jobs: RefusedJobs | None = None) -> None:
        self.source: Source = tasks.source()
        self.state = SourceState(refused_jobs=RefusedJobs() if refused_jobs is None else refused_jobs)
        self.recorder = SweepRecorder()
        self.transactions = 0
        self._tasks = tasks
        event.listen(self.source.engine, "begin", self._count)

    def _count(self, _connection: object) -> None:
        self.transactions += 1

    def sweep(self) -> SweepReport:
        self.transactions = 0
        report = self._tasks.sweep(self.source, memory=self.state, options=OPTIONS, recorder=self.recorder)
        self.source.close()
        return report


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "how", ["raises", *(pytest.param(how, marks=pytest.mark.thorough) for how in ("puts back", "a check"))]
)
def test_good_jobs_behind_many_refused_ones_end_in_the_first_sweep(tasks: Tasks, how: str) -> None:
    add(tasks, range(1, 401), "bad")
    add(tasks, range(401, 421), "good")
    refuse(tasks, how)
    sweeps = Sweeps(tasks)
    report = sweeps.sweep()
    assert (report.outcome, report.error) == (Outcome.DONE, None)
    assert (report.reaped, report.refused_now, report.refused_total, report.postponed) == (20, 400, 400, 0)
    assert set(tasks.states().values()) == {"working", "dead"}
    assert [key for key, state in tasks.states().items() if state == "dead"] == [str(n) for n in range(401, 421)]
    [cause] = report.refusals
    assert (cause.jobs, len(report.failures)) == (400, 100)
    assert sweeps.transactions < 1.3 * 420

    report = sweeps.sweep()
    assert (report.reaped, report.refused_now, report.refused_total) == (0, 0, 400)
    assert sweeps.transactions < 20


@pytest.mark.parametrize(
    "code",
    [
        *("08006", "25006", "57P01"),
        *(pytest.param(code, marks=pytest.mark.thorough) for code in ("28P01", "3D000", "53300", "58030")),
    ],
)
def test_trigger_that_raises_with_a_code_of_the_server_itself_stops_no_other_job(
    request: pytest.FixtureRequest, code: str
) -> None:
    """These codes mean that the database is away, or that no statement can be run, where the server sends them."""
    with database_on(request, "postgresql") as database, tasks_in(database) as tasks:
        add(tasks, range(1, 6), "bad")
        add(tasks, range(6, 9), "good")
        tasks.session.do(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF OLD.kind = 'bad' THEN RAISE 'no' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
        )
        tasks.session.do("CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION poison()")
        report = Sweeps(tasks).sweep()
        assert (report.outcome, report.reaped, report.refused_now) == (Outcome.DONE, 3, 5)


@pytest.mark.parametrize("body", ["PERFORM poison_for_ever()", "PERFORM pg_read_file('/nowhere')"])
def test_what_a_trigger_meets_by_itself_stops_no_other_job(request: pytest.FixtureRequest, body: str) -> None:
    """It calls itself until the stack is used up; a file that it needs is away."""
    with database_on(request, "postgresql") as database, tasks_in(database) as tasks:
        add(tasks, range(1, 3), "bad")
        add(tasks, range(3, 6), "good")
        tasks.session.do(
            "CREATE FUNCTION poison_for_ever() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM poison_for_ever();"
            " END $$"
        )
        tasks.session.do(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF OLD.kind = 'bad' THEN {body}; END IF; RETURN NEW; END $$"
        )
        tasks.session.do("CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION poison()")
        report = Sweeps(tasks).sweep()
        assert (report.outcome, report.reaped, report.refused_now) == (Outcome.DONE, 3, 2)


@mostly_on("postgresql")
def test_good_jobs_between_refused_ones_end_in_the_first_sweep(tasks: Tasks) -> None:
    add(tasks, range(1, 600, 3), "bad")
    add(tasks, [n for n in range(1, 600) if n % 3 != 1], "good")
    refuse(tasks, "raises")
    report = Sweeps(tasks).sweep()
    assert (report.reaped, report.refused_now) == (399, 200)


def test_one_refused_job_of_many_costs_few_transactions(tasks: Tasks) -> None:
    add(tasks, [n for n in range(1, 402) if n != 77], "good")
    add(tasks, [77], "bad")
    refuse(tasks, "raises")
    sweeps = Sweeps(tasks)
    report = sweeps.sweep()
    assert (report.reaped, report.refused_now) == (400, 1)
    assert sweeps.transactions < 60


@mostly_on("postgresql")
def test_refused_jobs_wait_until_all_others_are_done_and_a_sweep_tries_some_of_them(tasks: Tasks) -> None:
    clock = Clock()
    add(tasks, range(1, 301), "bad")
    refuse(tasks, "raises")
    sweeps = Sweeps(tasks, RefusedJobs(monotonic=clock))
    assert sweeps.sweep().refused_now == 300
    clock.now += FIRST_PAUSE_SECONDS
    add(tasks, range(301, 311), "good")
    report = sweeps.sweep()
    assert (report.reaped, report.refused_now, report.refused_total) == (10, MAX_TRIED_AGAIN, 300)


@mostly_on("postgresql")
def test_jobs_are_ended_at_once_when_the_cause_of_their_refusal_has_gone(tasks: Tasks) -> None:
    clock = Clock()
    add(tasks, range(1, 301), "bad")
    refuse(tasks, "raises")
    sweeps = Sweeps(tasks, RefusedJobs(monotonic=clock))
    sweeps.sweep()
    tasks.session.do("DROP TRIGGER poison" if tasks.mariadb else "DROP TRIGGER poison ON task")
    clock.now += FIRST_PAUSE_SECONDS
    report = sweeps.sweep()
    # More than are tried again while the cause is there.
    assert (report.reaped, report.refused_total, len(sweeps.state.refused_jobs)) == (300, 0, 0)


# --- refusals that are slow -------------------------------------------------------------------------------------------


@dataclass
class Finished(SweepRecorder):
    """How many slow refusals had taken all of their time when so many jobs were ended."""

    tasks: Tasks | None = None
    finished: list[tuple[int, int]] = field(default_factory=list)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        super().reaped(source, sweep_id, batch)
        assert self.tasks is not None
        self.finished.append((len(self.reaped_jobs), slept(self.tasks)))


def refuse_slowly(tasks: Tasks, seconds: float) -> None:
    """Tasks of the kind 'bad' are refused after that time, which a counter outside of the transaction counts."""
    if tasks.mariadb:
        tasks.session.do("CREATE SEQUENCE slept NOCACHE")
        tasks.session.do(
            f"CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW IF OLD.kind = 'bad' THEN DO SLEEP({seconds}); "
            "DO nextval(slept); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF"
        )
        return
    tasks.session.do("CREATE SEQUENCE slept")
    tasks.session.do(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.kind = 'bad' THEN "
        f"PERFORM pg_sleep({seconds}); PERFORM nextval('public.slept'); RAISE EXCEPTION 'not this one'; END IF; "
        "RETURN NEW; END $$"
    )
    tasks.session.do("CREATE TRIGGER poison BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION poison()")


def slept(tasks: Tasks) -> int:
    if tasks.mariadb:
        return int(tasks.session.one("SELECT next_not_cached_value - 1 FROM slept"))
    return int(tasks.session.one("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM slept"))


def test_slow_refusals_are_cut_off_until_the_others_are_done(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "MAX_REFUSED_SECONDS", 10.0)
    add(tasks, range(1, 7), "bad")
    add(tasks, range(7, 76), "good")
    refuse_slowly(tasks, 1.0)
    sweeps = Sweeps(tasks)
    sweeps.recorder = recorder = Finished(tasks=tasks)
    report = sweeps.sweep()
    assert (report.outcome, report.reaped) == (Outcome.DONE, 69)
    assert recorder.finished[-1][0] == 69 and recorder.finished[-1][1] <= 3
    assert report.refused_total == 6


def test_what_refusals_leave_no_time_for_waits_for_the_next_sweep(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_runner, "MAX_REFUSED", 40)
    add(tasks, range(1, 101), "bad")
    refuse(tasks, "raises")
    sweeps = Sweeps(tasks)
    reports = [sweeps.sweep() for _ in range(4)]
    assert reports[0].postponed > 0 and reports[0].refused_now + reports[0].postponed == 100
    assert reports[-1].postponed == 0 and reports[-1].refused_total == 100


# --- what is remembered and said --------------------------------------------------------------------------------------


def test_refused_jobs_are_left_alone_after_a_restart(tasks: Tasks, tmp_path: Path) -> None:
    add(tasks, range(1, 31), "bad")
    refuse(tasks, "raises")
    assert Sweeps(tasks, RefusedJobs(Memory.open(tmp_path).refused_jobs, "main")).sweep().refused_now == 30
    restarted = Sweeps(tasks, RefusedJobs(Memory.open(tmp_path).refused_jobs, "main"))
    report = restarted.sweep()
    assert (report.refused_now, report.refused_total) == (0, 30)
    # An operator ends some of them.
    tasks.session.do("DROP TRIGGER poison" if tasks.mariadb else "DROP TRIGGER poison ON task")
    tasks.session.do("UPDATE task SET state = 'dead' WHERE id <= 10")
    restarted.sweep()
    assert len(Memory.open(tmp_path).refused_jobs.load("main")) == 20


def test_refused_jobs_do_not_open_the_breaker_for_the_others() -> None:
    breaker = Breaker(50, 0.5)
    assert breaker.opens(JobCounts(running=1000, past_timeout=700, stale=600, oldest_started_epoch=None))
    known = JobCounts(running=1000, past_timeout=700, stale=600, oldest_started_epoch=None, refused=560)
    assert not breaker.opens(known)
    assert breaker.opens(replace(known, stale=900))


@mostly_on("postgresql")
def test_refusals_are_said_once_for_each_cause_whatever_their_number(tasks: Tasks) -> None:
    clock, log = Clock(), DaemonLog()
    add(tasks, range(1, 151), "bad")
    refuse(tasks, "raises")
    sweeps = Sweeps(tasks, RefusedJobs(monotonic=clock))
    with capture_logs() as lines:
        for _ in range(5):
            log.swept(sweeps.sweep())
            clock.now += FIRST_PAUSE_SECONDS
        tasks.session.do("DROP TRIGGER poison" if tasks.mariadb else "DROP TRIGGER poison ON task")
        clock.now += 10 * FIRST_PAUSE_SECONDS
        log.swept(sweeps.sweep())
    refusals = [line for line in lines if "refuse" in line["event"]]
    assert [line["event"] for line in refusals] == [
        "Reaper could not end a job: the database refused it.",
        "Reaper has no job any more that the database refuses for this cause.",
    ]
    assert refusals[0]["more"] == "149 more like this"


def test_refusals_of_purges_are_logged_once_for_each_cause() -> None:
    log = DaemonLog()
    purges: list[dict[str, int]] = [{"kept: 1": 9, "other": 1}, {"kept: 7": 10}, {"kept: 7": 90}, {}, {"kept: 7": 1}]
    with capture_logs() as lines:
        for refusals in purges:
            log.purge_ended(PurgeReport("main", Outcome.DONE, 1.0, refusals=refusals))
            log.purge_ended(PurgeReport("main", Outcome.STANDBY, 1.0))
            log.purge_ended(PurgeReport("main", Outcome.FAILED, 1.0, error="away", database_away=True))
    said = [(line["error"], line.get("rows")) for line in lines if "refuse" in line["event"]]
    assert said == [("kept: 1", 9), ("other", 1), ("other", None), ("kept: 7", 90), ("kept: #", None), ("kept: 7", 1)]
