"""vuls end to end: its tables on PostgreSQL, its tasks in real Celery workers, over a real Redis and a real RabbitMQ.

`liveness/test_celery` tests what Celery's workers report; this file tests what a sweep does with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from redis import Redis
from structlog.testing import capture_logs

from reaper.liveness import LivenessReport
from reaper.liveness.celery import CeleryProbe
from reaper.model import Evidence, JobCounts, ReapedJob, SweepReport
from reaper.observers.daemon_log import DaemonLog
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.brokers import (
    Broker,
    CeleryCluster,
    CeleryWorker,
    RabbitServer,
    RedisServer,
    rabbit_server,
    redis_server,
)
from tests.support.daemons import Daemon
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.waiting import wait_until
from tests.support.worlds.servers import postgresql_database
from tests.support.worlds.vuls import VulsWorld
from tests.support.worlds.world import OLD, State

pytestmark = pytest.mark.timeout(180)

DEADLINE = 4.0
"""Seconds that an inspection gets, which ends within a second where everybody answers."""
ALIVE_UNTIL = 7 * HOUR
"""The maximum age that most tests set. Runs are eight hours old: older than that, and than the timeout of 6 h."""


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with rabbit_server(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


# tests/liveness tries all that is asked of a broker on both, always.
@pytest.fixture(params=["redis", pytest.param("rabbit", marks=pytest.mark.thorough)])
def broker(request: pytest.FixtureRequest) -> Broker:
    server: Broker = request.getfixturevalue(request.param)
    return server


over_redis = pytest.mark.parametrize("broker", ["redis"], indirect=True)
"""For what no broker makes any difference to."""


@pytest.fixture
def new_vuls(databases: TemporaryDatabases) -> Iterator[Callable[[], Vuls]]:
    """Makes vuls databases."""
    with ExitStack() as made:
        yield lambda: made.enter_context(Vuls.create(made.enter_context(postgresql_database(databases))))


@pytest.fixture
def vuls(new_vuls: Callable[[], Vuls]) -> Vuls:
    return new_vuls()


class Vuls(VulsWorld):
    """A vuls whose runs are tasks of Celery's own workers."""

    def run(self, task: str | None, age: float = OLD, *, began: bool = True) -> str:
        """A run that was made, or begun, `age` seconds ago."""
        ago = self.database.ago
        return str(
            self.session.one(
                "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)"
                f" VALUES (7, %s, %s, {ago}, {ago}) RETURNING id",
                task,
                "running" if began else "pending",
                age,
                age if began else None,
            )
        )

    def runs(self, count: int) -> None:
        """Runs of which no worker knows."""
        self.session.do(
            "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, started_at)"
            f" SELECT 7, gen_random_uuid()::text, 'running', {self.database.ago} FROM generate_series(1, %s)",
            OLD,
            count,
        )

    def begin(self, run: str) -> None:
        """A worker has taken it up, and says so as the first thing that it does."""
        self.session.do("UPDATE task_runs SET status = 'running', started_at = now() WHERE id = %s", run)

    def reaped(self, *runs: str) -> list[bool]:
        return [self.state(run) is State.REAPED for run in runs]

    def schedules(self) -> Source:
        """The scheduled tasks that these runs belong to."""
        return Source("schedules", self.database.url, resolve("vuls-schedule"), thresholds(), PATIENCE)


class HookedProbe(CeleryProbe):
    """Things happen between its testimony and the survey."""

    def __init__(self, cluster: CeleryCluster) -> None:
        super().__init__(cluster.broker.url, DEADLINE, {cluster.queue}, absence_seconds=0)
        self.then: Callable[[], object] = lambda: None

    def ask(self) -> LivenessReport:
        said = super().ask()
        self.then()
        return said


@dataclass
class HookedRecorder(SweepRecorder):
    """Things happen between survey and claim, and between a batch's commit and the revocation of its tasks."""

    before_claim: Callable[[], object] = lambda: None
    after_commit: Callable[[], object] = lambda: None

    def surveyed(self, source: str, census: JobCounts) -> None:
        super().surveyed(source, census)
        self.before_claim()

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        super().reaped(source, sweep_id, batch)
        self.after_commit()


@dataclass
class SourceSweeper:
    """The sweeps of one source, one after the other, as a daemon makes them."""

    source: Source
    recorder: HookedRecorder = field(default_factory=HookedRecorder)
    memory: SourceState = field(default_factory=SourceState)
    downtime: DowntimeTracker = field(default_factory=lambda: DowntimeTracker(0))

    @classmethod
    def of(
        cls,
        vuls: Vuls,
        cluster: CeleryCluster,
        *,
        max_age: float | None = None,
        absence: float = 0,
        witness: CeleryProbe | None = None,
        deadline: float = DEADLINE,
    ) -> SourceSweeper:
        """By default absence is trusted at once."""
        asked = witness or CeleryProbe(cluster.broker.url, deadline, {cluster.queue}, absence_seconds=absence)
        habits = SourceOptions(probe=asked, queues=(cluster.queue,), max_age=max_age)
        return cls(Source("runs", vuls.database.url, resolve("vuls"), thresholds(), PATIENCE, habits))

    def sweep(self, batch_size: int = 1000) -> SweepReport:
        options = SweepOptions("test-host", batch_size, Breaker(10_000, 0.5))
        report = sweep(self.source, self.downtime, self.memory, options, None, self.recorder)
        assert report.error is None
        return report

    def explain(self, run: str) -> Evidence:
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            with self.source.transaction(connection, read_only=True):
                [evidence] = self.source.lookup.evidence(connection, context, [(run,)])
        return evidence


def start_two_workers(cluster: CeleryCluster) -> list[CeleryWorker]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: cluster.start_worker(), range(2)))


# --- tasks that hang, wait, and never were ----------------------------------------------------------------------


def test_tasks_of_workers_and_broker_are_spared_up_to_the_maximum_age(vuls: Vuls, cluster: CeleryCluster) -> None:
    worker, witness = cluster.start_worker(CHORES_PREFETCH="2"), SourceSweeper.of(vuls, cluster).source.options.probe
    assert witness is not None
    later = cluster.send("nothing", countdown=365 * 86400)
    wait_until(lambda: later in witness.ask().alive, "its worker has it")
    hung = cluster.start_task()
    behind = [cluster.send("nothing") for _ in range(6)]
    wait_until(lambda: set(behind) & witness.ask().alive, "some of them are reserved")

    executing = vuls.run(hung.id)
    waiting = [vuls.run(task, began=False) for task in (later, *behind)]
    lost, unnamed = vuls.run("no worker has it"), vuls.run(None)
    unsent = vuls.run("never sent", began=False)

    assert SourceSweeper.of(vuls, cluster, max_age=9 * HOUR).sweep().reaped in (0, 3)
    assert vuls.reaped(executing, *waiting) == [False] * (len(waiting) + 1) and hung.alive
    if isinstance(cluster.broker, RedisServer):
        assert vuls.reaped(lost, unsent, unnamed) == [True] * 3, "Redis shows each message, and they are none of them"
    else:
        for run in (lost, unsent, unnamed):
            why = SourceSweeper.of(vuls, cluster).explain(run).unknown
            assert why == "Celery: it may be one of the messages that wait in its queue"

    report = SourceSweeper.of(vuls, cluster, max_age=ALIVE_UNTIL).sweep()
    assert (report.reaped, report.revoke_trouble) == (1, None)
    assert vuls.reaped(executing, *waiting) == [True] + [False] * len(waiting)
    wait_until(lambda: not hung.alive, "the process of the task has ended")
    assert worker.running


@over_redis
def test_task_that_waited_for_longer_than_the_maximum_age_and_only_just_begins_is_not_killed(
    vuls: Vuls, cluster: CeleryCluster
) -> None:
    cluster.start_worker()
    task, sweeper = cluster.start_task(), SourceSweeper.of(vuls, cluster, max_age=ALIVE_UNTIL)
    run = vuls.run(task.id, began=False)
    assert sweeper.sweep().reaped == 0 and task.alive
    vuls.begin(run)
    assert sweeper.sweep().reaped == 0 and task.alive
    vuls.session.do("UPDATE task_runs SET started_at = created_at")
    assert sweeper.sweep().reaped == 1
    wait_until(lambda: not task.alive, "the process of the task has ended")


@over_redis
def test_run_that_a_worker_begins_after_the_inspection_is_not_ended(vuls: Vuls, cluster: CeleryCluster) -> None:
    cluster.start_worker()
    witness = HookedProbe(cluster)
    sweeper = SourceSweeper.of(vuls, cluster, witness=witness, max_age=ALIVE_UNTIL)
    before_survey, before_claim = vuls.run("one", began=False), vuls.run("another", began=False)
    witness.then = lambda: vuls.begin(before_survey)
    sweeper.recorder.before_claim = lambda: vuls.begin(before_claim)
    report = sweeper.sweep()
    assert report.census is not None
    assert (report.census.stale, report.reaped, report.lost) == (1, 0, 1)
    assert vuls.reaped(before_survey, before_claim) == [False, False]


# --- workers that are gone ---------------------------------------------------------------------------------------


@over_redis
def test_run_of_a_killed_worker_is_failed_after_the_absence_and_its_schedule_with_its_last_run(
    vuls: Vuls, cluster: CeleryCluster
) -> None:
    workers, chore = start_two_workers(cluster), cluster.start_task()
    run, sweeper, schedules = (
        vuls.run(chore.id),
        SourceSweeper.of(vuls, cluster, absence=2),
        SourceSweeper(vuls.schedules()),
    )
    vuls.session.do("UPDATE scheduled_tasks SET last_status = 'running', last_run_at = now() - interval '8 hours'")
    witness = sweeper.source.options.probe
    assert witness is not None
    [name] = wait_until(lambda: witness.ask().executing, "it is executed").values()
    wait_until(lambda: cluster.queue in witness.ask().queues, "the witness has asked for long enough")
    assert sweeper.sweep().reaped == schedules.sweep().reaped == 0

    killed = next(worker for worker in workers if worker.name == name)
    killed.kill()
    begun = time.monotonic()
    report = sweeper.sweep()
    assert (report.reaped, report.witness_trouble) == (0, None)
    assert name in str(sweeper.explain(run).unknown)
    assert schedules.sweep().reaped == 0
    wait_until(lambda: sweeper.sweep().reaped, "it is dead")
    assert time.monotonic() - begun >= 2
    assert vuls.reaped(run) == [True] and "running for 8h 0m" in vuls.message(run)

    assert schedules.sweep().reaped == 0, "the process that ended the run may be about to say so in its schedule"
    vuls.session.do("UPDATE task_runs SET completed_at = now() - interval '2 hours', created_at = started_at")
    assert schedules.sweep().reaped == 1
    status, error = vuls.session.ask("SELECT last_status, last_error FROM scheduled_tasks")[0]
    assert status == "failed" and "timeout 6h" in error


@pytest.mark.thorough
@over_redis
def test_broker_that_is_away_stops_reaping_and_is_logged_once_until_it_is_back(
    vuls: Vuls, cluster: CeleryCluster, tmp_path: Path
) -> None:
    cluster.start_worker()
    chore = cluster.start_task()
    alive = vuls.run(chore.id)
    event, again = (
        "Celery workers could not be inspected; their jobs are left alone until they can be.",
        "Celery workers can be inspected again.",
    )
    with daemon(vuls, cluster.broker.url, tmp_path, cluster.queue, deadline="2s") as running:
        running.comes_up()
        running.shows("reaper_jobs_spared", 1, "runs")
        with stopped(cluster.broker):
            running.says(event, source="runs")
            dead, growing_old = vuls.run("no worker has it"), vuls.run("nor this", 6 * HOUR - 1)
            skipped = running.says(
                "Reaper spared a silent job: whether it is alive is not known.", source="runs", job=growing_old
            )
            assert cluster.broker.address in skipped["unknown"]
            running.sweeps_on(2, source="runs")
            running.shows("reaper_witness_up", 0, "runs")
            assert vuls.reaped(alive, dead) == [False, False]
        running.shows("reaper_witness_up", 1, "runs")
        wait_until(lambda: vuls.reaped(alive, dead) == [False, True], "the dead one is failed", 30)
        assert len(running.said(event)) == len(running.said(again)) == 1
    assert chore.alive


@contextmanager
def stopped(broker: Broker) -> Iterator[None]:
    broker.down()
    try:
        yield
    finally:
        broker.up()


def daemon(vuls: Vuls, broker_url: str, folder: Path, queue: str, *, deadline: str) -> Daemon:
    """`reaper run` for the runs and the schedules."""
    return Daemon(
        folder,
        f"queues = ['{queue}']\nbroker_deadline_seconds = '{deadline}'\nworker_absence_seconds = '1s'\n"
        "[sources.runs]\nprofile = 'vuls'\n[sources.schedules]\nprofile = 'vuls-schedule'\n",
        database_url=vuls.database.url,
        broker_url=broker_url,
    )


# --- the price ---------------------------------------------------------------------------------------------------


@over_redis
def test_sweep_asks_the_workers_once_however_many_runs_and_batches_there_are(
    vuls: Vuls, cluster: CeleryCluster
) -> None:
    cluster.start_worker()
    sweeper = SourceSweeper.of(vuls, cluster)
    with Redis.from_url(cluster.broker.url) as client:

        def questions(reaped: int) -> int:
            before = client.info("commandstats")["cmdstat_publish"]["calls"]
            assert sweeper.sweep(batch_size=50).reaped == reaped
            return int(client.info("commandstats")["cmdstat_publish"]["calls"]) - int(before)

        sweeper.sweep()
        for_none = questions(0)
        vuls.runs(400)
        assert questions(400) == for_none > 0


@pytest.mark.thorough
def test_broker_that_never_answers_costs_its_own_source_the_deadline_and_the_others_nothing(
    vuls: Vuls, tmp_path: Path
) -> None:
    run = vuls.run("unknown")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with daemon(vuls, url, tmp_path, "celery", deadline="2s") as running:
            running.comes_up()
            running.sweeps_on(1, source="runs")
            before = running.sweeps(source="schedules")
            begun = time.monotonic()
            running.sweeps_on(1, source="runs")
            lasted = time.monotonic() - begun
            assert lasted < 2 + 1 + 2, "the deadline, the wait for the next second, and some patience"
            assert running.sweeps(source="schedules") - before >= lasted - 2
            assert vuls.reaped(run) == [False]
            status, seconds = running.stop()
            assert (status, seconds < 2 + 2) == (0, True)
            assert not running.said("Reaper cycle failed")


# --- telling the workers -------------------------------------------------------------------------------------------


@over_redis
def test_task_whose_worker_could_not_be_reached_is_revoked_by_the_next_sweep(
    vuls: Vuls, cluster: CeleryCluster
) -> None:
    cluster.start_worker()
    hung, sweeper = cluster.start_task(), SourceSweeper.of(vuls, cluster, max_age=ALIVE_UNTIL, deadline=2)
    run, event_log = vuls.run(hung.id), DaemonLog(structlog.get_logger("reaper"))
    sweeper.recorder.after_commit = cluster.broker.freeze
    try:
        report = sweeper.sweep()
    finally:
        cluster.broker.thaw()
    assert vuls.reaped(run) == [True] and hung.alive
    assert (report.reaped, report.witness_trouble) == (1, None), "it could be asked"
    assert cluster.broker.address in str(report.revoke_trouble)
    with capture_logs() as log:
        event_log.swept(report)
        event_log.swept(again := sweeper.sweep())
        assert again.revoke_trouble == "1 task(s) of ended jobs are still being executed"
        wait_until(lambda: not hung.alive, "the process of the task has ended")
        wait_until(lambda: sweeper.sweep().revoke_trouble is None, "no task is revoked any more")
    assert [line["event"] for line in log if line["log_level"] == "error"] == [
        "Celery tasks of reaped jobs could not be revoked; they may still be running."
    ]


@pytest.mark.thorough
def test_sources_that_share_a_broker_are_not_in_each_others_way(
    new_vuls: Callable[[], Vuls], cluster: CeleryCluster
) -> None:
    start_two_workers(cluster)
    both, chores = [new_vuls(), new_vuls()], [cluster.start_task(), cluster.start_task()]
    alive = [vuls.run(chore.id) for vuls, chore in zip(both, chores, strict=True)]
    dead = [vuls.run("no worker has it") for vuls in both]
    rounds = [SourceSweeper.of(vuls, cluster) for vuls in both]
    with ThreadPoolExecutor(2) as pool:
        for reaped in (1, 0, 0):
            for report in pool.map(SourceSweeper.sweep, rounds):
                assert (report.reaped, report.witness_trouble) == (reaped, None)
    for vuls, live, gone in zip(both, alive, dead, strict=True):
        assert vuls.reaped(live, gone) == [False, True]
    assert SourceSweeper.of(both[0], cluster, max_age=ALIVE_UNTIL).sweep().reaped == 1
    wait_until(lambda: not chores[0].alive, "the process of the task has ended")
    assert rounds[1].sweep().reaped == 0 and chores[1].alive
