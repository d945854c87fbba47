"""Tasks that are not to run leave their workers and queues; all others stay: on a real Redis and a real RabbitMQ."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from redis import Redis

from reaper.liveness.celery import CeleryProbe
from reaper.liveness.inspect import rabbitmq_removal
from tests.support.brokers import Broker, CeleryCluster, RabbitServer, rabbit_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One node for all tests: it takes ten seconds to start."""
    with rabbit_server(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(params=["redis", "rabbit"])
def broker(request: pytest.FixtureRequest) -> Broker:
    server: Broker = request.getfixturevalue(request.param)
    return server


def probe(cluster: CeleryCluster, *queues: str, **options: Any) -> CeleryProbe:
    return CeleryProbe(cluster.broker.url, 6.0, queues or {cluster.queue}, absence_seconds=0, **options)


def waiting(url: str, queue: str) -> list[str]:
    """The tasks that wait in a RabbitMQ queue, in the order in which workers would get them. They are put back."""
    ids = list[str]()
    with Connection(url) as connection, connection.channel() as channel:
        while (message := channel.basic_get(queue)) is not None:
            ids.append(str(message.properties["application_headers"]["id"]))
    return ids


# --- workers -----------------------------------------------------------------------------------------------------


def test_executing_task_is_terminated_and_reserved_ones_are_thrown_away(cluster: CeleryCluster) -> None:
    cluster.start_worker(CHORES_PREFETCH="4")
    running, other = cluster.start_task(), cluster.send("nothing")
    tracks = [cluster.folder / f"reserved-{n}" for n in range(2)]
    reserved = [cluster.send("linger", str(track)) for track in tracks]
    asked = probe(cluster)
    wait_until(lambda: {*reserved, other} <= asked.ask().alive and not asked.ask().backlog, "its worker has them")
    looked = asked.remove_tasks([running.id, *reserved], dry_run=True)
    assert (looked.trouble, looked.executing, looked.held, looked.messages) == (None, 1, 2, 0)
    assert running.alive, "a dry run ends nothing"
    done = asked.remove_tasks([running.id, *reserved])
    assert (done.trouble, done.executing, done.still_executing, done.held, done.workers) == (None, 1, 0, 2, 1)
    wait_until(lambda: not running.alive, "the terminated process ends")
    wait_until(lambda: not {running.id, *reserved, other} & asked.ask().alive, "the worker goes on with the other one")
    assert not any(track.exists() for track in tracks)
    assert done.revoked_only == (2 if isinstance(cluster.broker, RabbitServer) else 0)


def test_task_with_an_eta_is_revoked_where_its_worker_keeps_it(cluster: CeleryCluster) -> None:
    cluster.start_worker()
    later = cluster.send("nothing", countdown=3600)
    asked = probe(cluster)
    wait_until(lambda: later in asked.ask().alive, "its worker has it")
    assert asked.remove_tasks([later]).held == 1


# --- messages ----------------------------------------------------------------------------------------------------


def test_messages_are_taken_out_and_others_keep_their_order_and_run(cluster: CeleryCluster) -> None:
    tracks = [cluster.folder / f"task-{n}" for n in range(9)]
    ids = [cluster.send("linger", str(track)) for track in tracks]
    if isinstance(cluster.broker, RabbitServer):
        assert waiting(cluster.broker.url, cluster.queue) == ids
    gone, left = ids[1::3], [id_ for n, id_ in enumerate(ids) if n % 3 != 1]
    looked = probe(cluster).remove_tasks(gone, dry_run=True)
    assert (looked.removed, looked.left, looked.workers) == ({cluster.queue: 3}, {}, 0)
    done = probe(cluster).remove_tasks(gone)
    assert (done.trouble, done.removed, done.left) == (None, {cluster.queue: 3}, {})
    assert probe(cluster).remove_tasks(gone).removed == {}
    if isinstance(cluster.broker, RabbitServer):
        assert waiting(cluster.broker.url, cluster.queue) == left
    cluster.start_worker(CHORES_PREFETCH="1")
    begun = list[int]()

    def new() -> list[int]:
        return [n for n, track in enumerate(tracks) if track.exists() and n not in begun]

    for _ in left:
        begun += wait_until(new, "the next one begins")
        (cluster.folder / f"task-{begun[-1]}.done").touch()
    assert begun == [n for n in range(9) if n % 3 != 1], "in their order, and none of the others"


def test_task_in_a_queue_that_nobody_names_is_found_or_counted(cluster: CeleryCluster) -> None:
    """With all workers stopped, RabbitMQ names no queue; Redis does."""
    task = cluster.send("nothing")
    for dry_run in (True, False):
        done = probe(cluster, "elsewhere").remove_tasks([task], dry_run=dry_run)
        if isinstance(cluster.broker, RabbitServer):
            assert (done.removed, done.left, done.not_found, list(done.searched)) == ({}, {}, 1, ["elsewhere"])
        else:
            assert (done.removed, done.left, done.not_found) == ({cluster.queue: 1}, {}, 0)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_every_priority_list_under_the_key_prefix_is_searched_byte_by_byte(cluster: CeleryCluster) -> None:
    """The exact message, and no other one: the bytes of the rest are as they were."""
    options = {"global_keyprefix": "app[1]*", "sep": "::", "priority_steps": [0, 3, 8]}
    with Connection(cluster.broker.url, transport_options=options) as connection:
        queue = Queue(cluster.queue, Exchange(cluster.queue), cluster.queue)
        producer = connection.Producer()
        for n in range(60):
            headers = {"id": f"task-{n}", "task": "chores.nothing"}
            producer.publish([], headers=headers, priority=(0, 3, 8)[n % 3], declare=[queue], exchange=queue.exchange,
                             routing_key=cluster.queue)  # fmt: skip
    with Redis.from_url(cluster.broker.url) as client:
        names = {f"app[1]*{cluster.queue}{suffix}".encode() for suffix in ("", "::3", "::8")}
        assert names <= set(client.keys())
        before = {name: client.lrange(name, 0, -1) for name in names}
        gone = {f"task-{n}" for n in range(0, 60, 4)}
        # A task that waits at any priority is alive.
        assert probe(cluster, transport_options=options).ask().alive == {f"task-{n}" for n in range(60)}
        # Its name is not configured: the bindings at the broker name it.
        done = probe(cluster, "another", transport_options=options).remove_tasks(gone)
        assert (done.trouble, done.removed, done.left) == (None, {cluster.queue: 15}, {})
        for name, messages in before.items():
            kept = [raw for raw in messages if json.loads(raw)["headers"]["id"] not in gone]
            assert client.lrange(name, 0, -1) == kept and len(kept) < len(messages)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_messages_that_are_sent_and_taken_meanwhile_are_neither_lost_nor_kept(cluster: CeleryCluster) -> None:
    """A producer sends and a worker takes while the list is read and its messages are removed."""
    first = cluster.send("nothing")
    with Redis.from_url(cluster.broker.url) as client:
        template = client.lpop(cluster.queue)

        def message(id_: str) -> bytes:
            return bytes(template.replace(first.encode(), id_.encode()))

        client.lpush(cluster.queue, *[message(f"early-{n}") for n in range(20_000)])
        gone, stop, sent, taken = {f"early-{n}" for n in range(0, 20_000, 100)}, threading.Event(), 0, list[bytes]()

        def others() -> None:
            nonlocal sent
            with Redis.from_url(cluster.broker.url) as other:
                while not stop.is_set():
                    other.lpush(cluster.queue, message(f"late-{sent}"))
                    sent += 1
                    if sent % 10 == 0:
                        taken.append(other.rpop(cluster.queue))

        working = threading.Thread(target=others)
        working.start()
        try:
            done = probe(cluster).remove_tasks(gone)
        finally:
            stop.set()
            working.join(30)
        left = client.lrange(cluster.queue, 0, -1)
    assert done.trouble is None and not done.left and sent > 100
    ids = [json.loads(raw)["headers"]["id"] for raw in left]
    ids_taken = {json.loads(raw)["headers"]["id"] for raw in taken}
    assert not gone & set(ids) and done.messages == len(gone - ids_taken)
    everything = {f"early-{n}" for n in range(20_000)} | {f"late-{n}" for n in range(sent)}
    assert sorted(ids) == sorted(everything - gone - ids_taken)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_unacknowledged_message_of_a_killed_worker_does_not_come_back(cluster: CeleryCluster) -> None:
    worker = cluster.start_worker()
    running, other = cluster.start_task("linger_late"), cluster.send("linger_late", str(cluster.folder / "other"))
    asked = probe(cluster)
    wait_until(lambda: other in asked.ask().alive, "its worker has both")
    worker.kill()
    assert asked.remove_tasks([running.id], dry_run=True).unacknowledged == 1
    done = asked.remove_tasks([running.id])
    assert (done.trouble, done.workers, done.executing, done.unacknowledged, done.messages) == (None, 0, 0, 1, 0)
    with Redis.from_url(cluster.broker.url) as client:
        [(tag, raw)] = client.hgetall("unacked").items()
        assert json.loads(raw)[0]["headers"]["id"] == other and client.zrange("unacked_index", 0, -1) == [tag]
    assert asked.remove_tasks([running.id]).unacknowledged == 0


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_worker_that_stops_puts_nothing_back_that_was_removed(cluster: CeleryCluster) -> None:
    worker = cluster.start_worker()
    gone, kept = (cluster.send("nothing", countdown=3600) for _ in range(2))
    asked = probe(cluster)
    wait_until(lambda: {gone, kept} <= asked.ask().alive, "its worker has both")
    assert asked.remove_tasks([gone]).held == 1
    worker.shut_down_warmly()
    with Redis.from_url(cluster.broker.url) as client:
        wait_until(lambda: client.llen(cluster.queue) > 0, "it puts back what it had")
        [raw] = client.lrange(cluster.queue, 0, -1)
        assert json.loads(raw)["headers"]["id"] == kept and client.hlen("unacked") == 0


# --- RabbitMQ: what cannot be put back as it was ------------------------------------------------------------------


def declared(url: str, name: str, **arguments: Any) -> Queue:
    durable = arguments.pop("durable", True)
    with Connection(url) as connection:
        queue = Queue(name, Exchange(name), name, durable=durable, queue_arguments=arguments)
        producer = connection.Producer()
        for n in range(5):
            producer.publish(
                [], headers={"id": f"task-{n}"}, declare=[queue], exchange=queue.exchange, routing_key=name
            )
    return queue


@pytest.mark.parametrize("broker", ["rabbit"], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"durable": False},
        {"x-queue-type": "classic", "x-max-priority": 10, "x-message-ttl": 3_600_000, "x-overflow": "reject-publish"},
        {"x-single-active-consumer": True, "x-dead-letter-exchange": "dead"},
    ],
)
def test_classic_queue_is_known_whatever_its_other_arguments(cluster: CeleryCluster, arguments: dict[str, Any]) -> None:
    declared(cluster.broker.url, cluster.queue, **arguments)
    done = probe(cluster).remove_tasks(["task-1", "task-3"])
    assert (done.removed, done.left) == ({cluster.queue: 2}, {})
    wait_until(
        lambda: waiting(cluster.broker.url, cluster.queue) == ["task-0", "task-2", "task-4"], "the others are there"
    )


@pytest.mark.parametrize("broker", ["rabbit"], indirect=True)
def test_queue_of_another_type_is_left_as_it_is_and_named(cluster: CeleryCluster) -> None:
    declared(cluster.broker.url, cluster.queue, **{"x-queue-type": "quorum", "x-delivery-limit": 3})
    done = probe(cluster).remove_tasks(["task-1"])
    assert done.removed == {} and "it is a quorum queue" in done.left[cluster.queue]
    with Connection(cluster.broker.url) as connection, connection.channel() as channel:
        wait_until(lambda: channel.queue_declare(cluster.queue, passive=True)[1] == 5, "all are ready")
        assert not channel.basic_get(cluster.queue).delivery_info["redelivered"]


@pytest.mark.parametrize("broker", ["rabbit"], indirect=True)
def test_queue_with_consumers_or_with_too_many_messages_is_left_as_it_is(
    cluster: CeleryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = declared(cluster.broker.url, cluster.queue)
    with Connection(cluster.broker.url) as connection, connection.channel() as channel:
        channel.basic_qos(0, 1, False)
        channel.basic_consume(queue.name, callback=lambda _message: None)
        wait_until(lambda: channel.queue_declare(queue.name, passive=True)[2] == 1, "it has a consumer")
        done = probe(cluster).remove_tasks(["task-1"])
        assert done.removed == {} and "it has 1 consumer(s)" in done.left[queue.name]
    messages = rabbitmq_removal.MAX_READY
    with Connection(cluster.broker.url) as connection:
        producer = connection.Producer()
        for _ in range(messages):
            producer.publish([], headers={"id": "many"}, exchange=queue.exchange, routing_key=queue.name)
    done = probe(cluster).remove_tasks(["task-1"])
    assert done.removed == {} and f"it has {messages + 5} ready messages" in done.left[queue.name]


# --- away --------------------------------------------------------------------------------------------------------


def test_broker_that_is_away_is_trouble_and_no_error() -> None:
    begun = time.monotonic()
    done = CeleryProbe("redis://:s3cret@127.0.0.1:1/0", 5.0).remove_tasks(["any"])
    assert done.trouble is not None and "127.0.0.1:1" in done.trouble and "s3cret" not in done.trouble
    assert time.monotonic() - begun < 20
