"""Celery's workers as a witness: real workers on a real Redis and a real RabbitMQ, killed with real signals."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kombu import Connection, Producer
from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues
from redis import Redis

from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessReport
from reaper.liveness.celery import CeleryProbe
from reaper.liveness.worker_registry import KnownWorker, WorkerRegistry
from tests.support.brokers import PASSWORD, Broker, CeleryCluster, RabbitServer, RedisServer, rabbit_server
from tests.support.daemons import PROJECT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

DEADLINE = 20.0
"""Seconds for an inspection. It ends within a second where all workers answer; a busy machine needs more."""
POLL = 0.2
"""Seconds between two inspections where some seconds must pass: each is a process."""
SLACK = 2.0
"""Seconds by which a loaded machine may stop the inspecting process late."""


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One node for all tests: it takes ten seconds to start."""
    with rabbit_server(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(params=["redis", "rabbit"])
def broker(request: pytest.FixtureRequest) -> Broker:
    server: Broker = request.getfixturevalue(request.param)
    return server


mostly_over_redis = pytest.mark.parametrize(
    "broker", ["redis", pytest.param("rabbit", marks=pytest.mark.thorough)], indirect=True
)
"""For what a broker hardly has a part in."""


def probe(cluster: CeleryCluster, *queues: str, absence: float = 0, deadline: float = DEADLINE) -> CeleryProbe:
    """A probe that trusts a worker's absence at once, unless `absence` says otherwise."""
    return CeleryProbe(cluster.broker.url, deadline, {cluster.queue, *queues}, absence_seconds=absence)


def timed(celery: CeleryProbe) -> tuple[LivenessReport, float]:
    begun = time.monotonic()
    return celery.ask(), time.monotonic() - begun


def dead(said: LivenessReport, id_: str, queue: str) -> bool:
    """Whether the report means that the task is dead."""
    known = said.trouble is None and queue in said.queues and queue not in said.backlog
    return known and id_ not in said.alive


class TestAlive:
    @mostly_over_redis
    def test_executing_task_is_alive_and_has_its_worker_and_name(self, cluster: CeleryCluster) -> None:
        worker = cluster.start_worker()
        chore = cluster.start_task()
        said, seconds = timed(probe(cluster))
        assert said.trouble is None
        assert chore.id in said.alive
        assert said.executing == {chore.id: worker.name}
        assert said.names[chore.id] == "chores.linger"
        assert cluster.queue in said.queues
        assert seconds < DEADLINE / 2, "it does not wait for those who have all answered"

    def test_waiting_tasks_are_alive_when_reserved_and_at_the_broker(self, cluster: CeleryCluster) -> None:
        cluster.start_worker(CHORES_PREFETCH="3")
        cluster.start_task()
        behind = [cluster.send("nothing") for _ in range(8)]
        asked = probe(cluster)
        reserved = wait_until(lambda: [id_ for id_ in behind if id_ in asked.ask().alive], "some are reserved")
        assert len(reserved) >= 2
        said = asked.ask()
        assert not any(dead(said, id_, cluster.queue) for id_ in behind)
        assert set(said.executing).isdisjoint(behind)

    def test_scheduled_task_is_alive(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        later = cluster.send("nothing", countdown=365 * 86400)
        asked = probe(cluster)
        wait_until(lambda: later in asked.ask().alive, "its worker has it")
        assert later not in asked.ask().executing

    def test_task_that_was_never_sent_is_dead_while_its_queue_is_served(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        assert dead(probe(cluster).ask(), "never-sent", cluster.queue)

    def test_queue_without_workers_makes_its_jobs_unknown(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        said = probe(cluster, "deserted").ask()
        assert cluster.queue in said.queues
        assert "deserted" not in said.queues
        assert not dead(said, "any", "deserted")

    def test_message_in_a_queue_without_workers_is_not_dead(self, cluster: CeleryCluster) -> None:
        cluster.start_worker("another" + cluster.queue)
        waiting = cluster.send("nothing")
        said = probe(cluster).ask()
        assert waiting in said.alive or cluster.queue in said.backlog

    def test_no_task_is_dead_without_any_worker(self, cluster: CeleryCluster) -> None:
        said = probe(cluster).ask()
        assert said.trouble is None
        assert not said.queues


class TestGone:
    def test_task_of_a_killed_worker_is_dead_when_another_worker_of_its_queue_answers(
        self, cluster: CeleryCluster
    ) -> None:
        first = cluster.start_worker()
        chore = cluster.start_task()
        cluster.start_worker()
        asked = probe(cluster)
        assert chore.id in asked.ask().alive
        first.kill()
        wait_until(lambda: not chore.alive, "its task has died with it")
        wait_until(lambda: dead(asked.ask(), chore.id, cluster.queue), "it is dead")

    @mostly_over_redis
    def test_killed_worker_keeps_its_queue_unknown_for_the_absence_and_no_longer(self, cluster: CeleryCluster) -> None:
        first = cluster.start_worker()
        chore = cluster.start_task()
        cluster.start_worker()
        asked = probe(cluster, absence=2)
        wait_until(
            lambda: cluster.queue in asked.ask().queues, "the witness has asked for long enough", interval_seconds=POLL
        )
        first.kill()
        begun = time.monotonic()
        said = asked.ask()
        assert cluster.queue not in said.queues
        assert first.name in " ".join(said.doubts) or "did not answer" in " ".join(said.doubts)
        wait_until(lambda: dead(asked.ask(), chore.id, cluster.queue), "it is dead", interval_seconds=POLL)
        assert time.monotonic() - begun >= 2

    @mostly_over_redis
    def test_task_of_a_worker_in_warm_shutdown_is_not_dead(self, cluster: CeleryCluster) -> None:
        first = cluster.start_worker()
        chore = cluster.start_task()
        cluster.start_worker()
        asked = probe(cluster, absence=3, deadline=4)
        wait_until(
            lambda: cluster.queue in asked.ask().queues, "the witness has asked for long enough", interval_seconds=POLL
        )
        first.shut_down_warmly()
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            assert not dead(asked.ask(), chore.id, cluster.queue)
        assert chore.alive, "the test shows nothing unless the task still runs"

    @pytest.mark.parametrize("broker", ["redis"], indirect=True)  # over RabbitMQ the name is taken until then
    def test_successor_of_the_same_name_does_not_prove_that_its_predecessor_ended(self, cluster: CeleryCluster) -> None:
        first = cluster.start_worker()
        chore = cluster.start_task()
        asked = probe(cluster, absence=4, deadline=6)
        wait_until(
            lambda: cluster.queue in asked.ask().queues, "the witness has asked for long enough", interval_seconds=POLL
        )
        first.shut_down_warmly()
        cluster.start_worker(name=first.name)
        said = asked.ask()
        assert chore.alive, "the test shows nothing unless the task still runs"
        assert not dead(said, chore.id, cluster.queue)
        # While the first is still connected it only "did not answer".
        wait_until(lambda: f"{first.name} (process" in " ".join(asked.ask().doubts), "the first is missed", 20)

    def test_probe_that_has_only_begun_to_ask_reports_no_task_dead(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        said = probe(cluster, absence=60).ask()
        assert cluster.queue not in said.queues
        assert "have been asked for" in said.doubts[0]

    def test_unacknowledged_message_of_a_killed_worker_is_not_dead(self, cluster: CeleryCluster) -> None:
        worker = cluster.start_worker()
        chore = cluster.start_task("linger_late")
        worker.kill()
        # A worker serves, but not this queue: no worker takes the message.
        cluster.start_worker("another" + cluster.queue)
        asked = probe(cluster)
        wait_until(lambda: (said := asked.ask()).backlog or chore.id in said.alive, "the broker has it")
        assert not dead(asked.ask(), chore.id, cluster.queue)

    @pytest.mark.parametrize("broker", ["rabbit"], indirect=True)
    def test_delayed_message_may_be_the_job_of_any_queue(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        asked = probe(cluster)
        assert not asked.ask().backlog
        with Connection(cluster.broker.url) as connection:
            declare_native_delayed_delivery_exchanges_and_queues(connection, "classic")
            channel = connection.default_channel
            try:
                assert not asked.ask().backlog
                Producer(channel).publish("later", routing_key="celery_delayed_5")
                wait_until(lambda: asked.ask().backlog == {cluster.queue}, "it is seen")
            finally:
                for level in range(28):
                    channel.queue_delete(f"celery_delayed_{level}")


class TestSilent:
    def test_frozen_worker_makes_the_jobs_of_its_queue_unknown_also_to_a_new_probe(
        self, cluster: CeleryCluster
    ) -> None:
        frozen = cluster.start_worker()
        chore = cluster.start_task()
        cluster.start_worker()
        frozen.freeze()
        said, seconds = timed(probe(cluster, deadline=4))
        assert cluster.queue not in said.queues
        assert "did not answer" in said.doubts[0]
        assert seconds <= 4 + SLACK
        frozen.thaw()
        asked = probe(cluster)
        wait_until(lambda: chore.id in asked.ask().alive, "it is heard again")
        assert cluster.queue in asked.ask().queues

    def test_busy_solo_worker_does_not_answer_and_its_task_is_not_dead(self, cluster: CeleryCluster) -> None:
        cluster.start_worker(pool="solo")
        chore = cluster.start_task()
        cluster.start_worker()
        said = probe(cluster, deadline=4).ask()
        assert not dead(said, chore.id, cluster.queue)
        assert cluster.queue not in said.queues
        chore.finish()
        asked = probe(cluster)
        wait_until(lambda: cluster.queue in asked.ask().queues, "it answers again")

    def test_busy_thread_worker_answers(self, cluster: CeleryCluster) -> None:
        worker = cluster.start_worker(pool="threads")
        chore = cluster.start_task()
        said = probe(cluster).ask()
        assert said.executing == {chore.id: worker.name}
        assert cluster.queue in said.queues
        chore.finish()

    @pytest.mark.parametrize("question", ["reserved", "active", "active_queues"])
    def test_worker_that_does_not_answer_every_command_serves_no_queue(
        self, cluster: CeleryCluster, question: str
    ) -> None:
        cluster.start_worker(CHORES_MUTE=question)
        chore = cluster.start_task()
        said = probe(cluster, deadline=2).ask()
        assert not dead(said, chore.id, cluster.queue)
        assert cluster.queue not in said.queues


class TestTrouble:
    @pytest.mark.parametrize(
        "broker", ["redis", pytest.param("rabbit", marks=pytest.mark.thorough)], indirect=True
    )  # RabbitMQ takes twenty seconds to come back
    def test_broker_that_is_away_is_trouble_until_it_is_back(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        chore = cluster.start_task()
        asked = probe(cluster)
        assert chore.id in asked.ask().alive
        cluster.broker.down()
        said, seconds = timed(asked)
        assert said.trouble is not None and cluster.broker.address in said.trouble
        assert not said.queues and not said.alive
        assert seconds < DEADLINE + SLACK
        cluster.broker.up()
        wait_until(lambda: chore.id in asked.ask().alive, "the worker has come back", 60)

    @pytest.mark.parametrize("scheme", ["redis", "amqp"])
    def test_closed_port_is_trouble(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        said = CeleryProbe(f"{scheme}://user:s3cret@127.0.0.1:{port}//", DEADLINE).ask()
        assert said.trouble is not None and f"127.0.0.1:{port}" in said.trouble and "s3cret" not in said.trouble

    def test_wrong_password_is_trouble_without_showing_it(self, cluster: CeleryCluster) -> None:
        wrong = "wr0ng:p@ss/w0rd".replace("@", "%40").replace(":", "%3A").replace("/", "%2F")
        said = CeleryProbe(cluster.broker.url_with(wrong), DEADLINE).ask()
        assert said.trouble is not None
        assert "\n" not in said.trouble
        assert cluster.broker.address in said.trouble
        assert "wr0ng" not in said.trouble and PASSWORD not in said.trouble

    def test_frozen_broker_does_not_delay_the_sweep(self, cluster: CeleryCluster) -> None:
        cluster.broker.freeze()
        try:
            said, seconds = timed(probe(cluster, deadline=1))
        finally:
            cluster.broker.thaw()
        assert said.trouble is not None
        assert seconds <= 1 + SLACK

    def test_broker_that_freezes_during_an_inspection_does_not_delay_the_sweep(self, cluster: CeleryCluster) -> None:
        worker = cluster.start_worker()
        worker.freeze()  # so that the inspection waits for it
        asked = probe(cluster, deadline=2)
        begun, freezer = time.monotonic(), threading.Timer(0.5, cluster.broker.freeze)
        freezer.start()
        try:
            said = asked.ask()
        finally:
            freezer.join()
            cluster.broker.thaw()
        assert time.monotonic() - begun <= 2 + SLACK
        assert not said.queues


@pytest.mark.parametrize("scheme", ["redis", "amqp", "rediss", "amqps"])
def test_port_that_accepts_and_never_answers_does_not_delay_the_sweep(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://user:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{silent.getsockname()[1]}/0"
        said, seconds = timed(CeleryProbe(url, 1))
    assert said.trouble is not None
    assert "s3cret" not in said.trouble
    assert seconds <= 1 + SLACK


@pytest.mark.parametrize("url", ["memory://", "filesystem://", "sqs://key:s3cret@"])
def test_transport_without_remote_control_is_trouble(url: str) -> None:
    said = CeleryProbe(url, DEADLINE).ask()
    assert said.trouble is not None
    assert "s3cret" not in said.trouble


class TestRevoke:
    @pytest.mark.parametrize("kill_signal", ["SIGTERM", "SIGKILL"])
    def test_revoke_ends_the_process_of_a_task_and_not_the_worker(
        self, cluster: CeleryCluster, kill_signal: str
    ) -> None:
        worker = cluster.start_worker()
        chore, spared = cluster.start_task(), cluster.send("nothing", countdown=3600)
        asked = CeleryProbe(cluster.broker.url, DEADLINE, {cluster.queue}, absence_seconds=0, kill_signal=kill_signal)
        asked.revoke([chore.id])
        wait_until(lambda: not chore.alive, "the process has ended")
        wait_until(lambda: dead(asked.ask(), chore.id, cluster.queue), "the worker does not have it any more")
        assert worker.running
        assert spared in asked.ask().alive

    def test_revoked_task_that_waits_is_never_started(self, cluster: CeleryCluster) -> None:
        cluster.start_worker()
        running = cluster.start_task()
        track = cluster.folder / "never"
        waiting = cluster.send("linger", str(track))
        asked = probe(cluster)
        wait_until(lambda: waiting in asked.ask().alive, "it waits")
        asked.revoke([waiting])
        running.finish()
        wait_until(lambda: dead(asked.ask(), waiting, cluster.queue), "it is gone")
        assert not track.exists()

    def test_revoke_fails_when_no_worker_answers(self, cluster: CeleryCluster) -> None:
        with pytest.raises(ProbeUnavailable, match="no worker answered"):
            probe(cluster, deadline=6).revoke(["any"])

    def test_revoke_fails_when_the_broker_is_away(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ProbeUnavailable, match=f"127.0.0.1:{port}"):
            CeleryProbe(f"redis://:s3cret@127.0.0.1:{port}/0", DEADLINE).revoke(["any"])


class TestHousekeeping:
    def test_inspection_leaves_nothing_open_here_or_at_the_broker(self, redis: RedisServer, tmp_path: Path) -> None:
        ours, cluster = psutil.Process(), CeleryCluster(redis, tmp_path)
        with Redis.from_url(redis.url) as client:

            def left() -> tuple[int, int, int, int, set[bytes]]:
                keys = {key for key in client.scan_iter() if b"binding.celery" not in key}
                return ours.num_fds(), ours.num_threads(), len(ours.children()), len(client.client_list()), keys

            try:
                cluster.start_worker()
                asked = probe(cluster)
                asked.ask()
                before = wait_until(lambda: left() if b"" not in left()[4] else None, "it is quiet")
                for _ in range(int(os.environ.get("REAPER_TEST_ASKS", "25"))):
                    assert asked.ask().queues == {cluster.queue}
                wait_until(lambda: left() == before, f"as before: {before}, now {left()}")
            finally:
                cluster.close()

    def test_probe_imports_nothing_of_celery_and_touches_no_signal_or_log(self, redis: RedisServer) -> None:
        text = """
import logging, signal, sys
from reaper.liveness.celery import CeleryProbe
def state():
    return [signal.getsignal(number) for number in signal.valid_signals()], logging.root.handlers[:], logging.root.level
before = state()
assert CeleryProbe(sys.stdin.readline().strip(), 5).ask().trouble is None
assert before == state()
print(*(name for name in ("celery", "kombu", "redis", "amqp", "billiard") if name in sys.modules))
"""
        done = subprocess.run(
            [sys.executable, "-c", text], input=redis.url, capture_output=True, text=True, cwd=PROJECT, check=False
        )
        assert (done.stdout.strip(), done.stderr) == ("", "")

    def test_password_is_in_no_list_of_processes(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://:s3cret@127.0.0.1:{silent.getsockname()[1]}/0"
            text = "import sys; from reaper.liveness.celery import CeleryProbe; CeleryProbe(sys.stdin.read(), 3).ask()"
            words = [sys.executable, "-c", text]
            with subprocess.Popen(words, stdin=subprocess.PIPE, text=True, cwd=PROJECT) as asking:
                assert asking.stdin is not None
                asking.stdin.write(url)
                asking.stdin.close()
                [child] = wait_until(lambda: psutil.Process(asking.pid).children(), "it asks")
                words = wait_until(child.cmdline, "it has its arguments")
                assert "reaper.liveness.inspect" in words
                assert not any("s3cret" in word for word in [*words, *child.environ().values()])
                child.kill()

    def test_missing_package_is_named_in_one_line(self) -> None:
        text = """
import sys
sys.modules["celery"] = None
from reaper.errors import ProbeNotInstalled
from reaper.liveness.celery import CeleryProbe
try:
    CeleryProbe("redis://h/0", 5)
except ProbeNotInstalled as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=PROJECT, check=False)
        assert done.stdout.strip().endswith("pip install 'job-reaper[celery]'")
        assert len(done.stdout.splitlines()) == 1


class TestWorkerRegistry:
    """Absence, with a clock that the test sets."""

    PREFORK = KnownWorker(frozenset({"q"}), replies_while_busy=True, pid=1)
    SOLO = KnownWorker(frozenset({"q"}), replies_while_busy=False, pid=1)

    def test_worker_is_missing_from_its_first_silent_round_until_the_absence_is_over(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({"a": self.PREFORK}, 0, now=0)
        assert not registry.missing("q")
        registry.update({}, 0, now=1000)
        assert registry.missing("q") == ["a"]
        registry.update({}, 0, now=1299)
        assert registry.missing("q") == ["a"]
        registry.update({}, 0, now=1300)
        assert not registry.missing("q")

    def test_worker_that_replies_again_starts_a_new_absence(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({"a": self.PREFORK}, 0, now=0)
        registry.update({}, 0, now=60)
        registry.update({"a": self.PREFORK}, 0, now=120)
        assert not registry.missing("q")
        registry.update({}, 0, now=400)
        assert registry.missing("q") == ["a"]

    def test_successor_of_the_same_name_does_not_replace_its_predecessor(self) -> None:
        for successor in (replace(self.PREFORK, pid=2, uptime_seconds=200), replace(self.PREFORK, uptime_seconds=1)):
            registry = WorkerRegistry(300)
            registry.update({"a": replace(self.PREFORK, uptime_seconds=100)}, 0, now=0)
            registry.update({"a": replace(self.PREFORK, uptime_seconds=160)}, 0, now=60)
            assert not registry.missing("q")
            registry.update({"a": successor}, 0, now=120)
            assert registry.missing("q") == ["a (process 1)"]
            registry.update({"a": successor}, 0, now=420)
            assert not registry.missing("q")

    def test_absence_does_not_pass_while_an_unnamed_worker_is_connected_and_silent(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({"a": self.PREFORK}, 0, now=0)
        registry.update({}, 1, now=60)
        registry.update({}, 1, now=1000)
        registry.update({}, 0, now=1100)
        assert registry.missing("q") == ["a"]
        registry.update({}, 0, now=1300)
        assert not registry.missing("q")

    def test_time_without_a_broker_is_no_absence(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({"a": self.PREFORK}, 0, now=0)
        registry.update({}, 0, now=60)
        registry.record_failed_round(now=200)
        registry.update({}, 0, now=400)
        assert registry.missing("q") == ["a"]
        registry.update({}, 0, now=500)
        assert not registry.missing("q")

    def test_pool_that_cannot_answer_while_busy_is_missing_for_a_day(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({"a": self.SOLO}, 0, now=0)
        registry.update({}, 0, now=60)
        registry.update({}, 0, now=60 + 86399)
        assert registry.missing("q") == ["a"]
        registry.update({}, 0, now=60 + 86400)
        assert not registry.missing("q")

    def test_registry_starts_again_after_failed_rounds_longer_than_the_absence(self) -> None:
        registry = WorkerRegistry(300)
        registry.update({}, 0, now=0)
        registry.record_failed_round(now=200)
        assert registry.listening_seconds(200) == 200
        registry.record_failed_round(now=300)
        registry.update({}, 0, now=400)
        assert registry.listening_seconds(400) == 0
