"""The order in which commands are sent and queues are read, so that no task is missed on its way between two places.

A task moves from its queue to a worker's schedule, to the worker's reserved tasks, to the tasks that it executes; a
retry puts it back into a queue. The commands are sent in this order, so that a task which moves on meanwhile is seen
further on. A task on its way from the broker to a worker, or back, may still be seen nowhere: so everything is asked
twice, and the queues are read before each time. To be missed, a task would have to be on its way at all four moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kombu import Connection

from reaper.liveness.inspect import InspectReply, InspectRequest, WorkerReply
from reaper.liveness.inspect.broker import Broker, QueuedMessages, broker_of
from reaper.liveness.inspect.remote_control import RemoteControl, Replies, open_remote_control

# `safe`: the tasks' arguments as text, since they might not be JSON. The other two commands have no such option.
_TASK_COMMANDS: Mapping[str, Mapping[str, Any]] = {"scheduled": {}, "reserved": {}, "active": {"safe": True}}
ALL_COMMANDS: Mapping[str, Mapping[str, Any]] = {**_TASK_COMMANDS, "active_queues": {}, "stats": {}}
# The rest of the time is for the second round, also when some workers do not reply to the first.
_FIRST_ROUND_SHARE = 0.7


def inspect_workers(connection: Connection, request: InspectRequest, started: float) -> InspectReply:
    """Inspect everything, in two rounds. Ends as soon as no worker can be missing, else when the time is up."""
    broker, reply, messages = broker_of(connection), InspectReply(), QueuedMessages()
    first_round_until = started + (request.until - started) * _FIRST_ROUND_SHARE
    with open_remote_control(connection, request.reply_queue) as control:
        messages.add(broker.read_queues(request.queues, first_round_until))
        first = control.broadcast(ALL_COMMANDS)
        control.collect(lambda: is_complete(broker, first), first_round_until)
        complete = workers_that_replied(first)
        messages.add(broker.read_queues({*request.queues, *consumed_queues(first)}, request.until))
        second = control.broadcast(_TASK_COMMANDS)
        control.collect(lambda: not complete - workers_that_replied(second), request.until)
    broker.close()
    for replies in (first, second):
        add_tasks(replies, reply)
    _add_workers(first, complete & workers_that_replied(second), reply)
    reply.queued, reply.unreadable_queues = messages.ids, sorted(messages.unreadable_queues)
    reply.listeners, reply.consumers = broker.listeners, broker.consumers
    return reply


def revoke_tasks(connection: Connection, request: InspectRequest) -> InspectReply:
    """Have all workers revoke and terminate the tasks, also a worker that would receive one of them later."""
    broker = broker_of(connection)
    with open_remote_control(connection, request.reply_queue) as control:
        replies = broadcast_revocation(control, broker, request.revoke, request.signal, request.until)
    broker.close()
    reply = InspectReply(listeners=broker.listeners, consumers=broker.consumers)
    reply.workers = {name: WorkerReply(complete_replies=count) for name, count in workers_that_replied(replies).items()}
    return reply


def broadcast_revocation(
    control: RemoteControl, broker: Broker, ids: Sequence[str], signal: str, until: float
) -> Replies:
    """Have the workers revoke and terminate these tasks; what they replied until then, on the monotonic clock."""
    replies = control.broadcast({"revoke": {"task_id": list(ids), "terminate": True, "signal": signal}})
    # RabbitMQ does not say how many workers there are: there, the first reply is enough.
    control.collect(lambda: broker.is_complete({}, workers_that_replied(replies).total()), until)
    return replies


def workers_that_replied(replies: Replies) -> Counter[str]:
    """How many processes of each worker name replied to all of the commands."""
    names = {name for by_worker in replies.values() for name in by_worker}
    fewest = {name: min(len(by_worker.get(name, ())) for by_worker in replies.values()) for name in names}
    return Counter({name: count for name, count in fewest.items() if count})


def consumed_queues(replies: Replies) -> Counter[str]:
    """How many of the workers that replied to all of the commands consume each queue."""
    complete = workers_that_replied(replies)
    return Counter(
        queue["name"]
        for name, by_process in replies["active_queues"].items()
        for queues in by_process[: complete[name]]
        for queue in queues or ()
    )


def is_complete(broker: Broker, replies: Replies) -> bool:
    """Whether no worker is missing among those that replied to all of the commands."""
    return broker.is_complete(consumed_queues(replies), workers_that_replied(replies).total())


def add_tasks(replies: Replies, reply: InspectReply) -> None:
    """The tasks of every reply, also of workers that did not reply to all of the commands."""
    for method in _TASK_COMMANDS:
        for name, by_process in replies[method].items():
            worker = reply.workers.setdefault(name, WorkerReply())
            tasks = worker.executing if method == "active" else worker.reserved
            for entry in (entry for entries in by_process for entry in entries or ()):
                task = entry.get("request", entry)
                tasks[str(task["id"])] = str(task.get("name") or "")


def _add_workers(replies: Replies, complete: Counter[str], reply: InspectReply) -> None:
    for name, count in complete.items():
        worker = reply.workers[name]
        worker.complete_replies = count
        worker.queues = [[str(queue["name"]) for queue in queues or ()] for queues in replies["active_queues"][name]]
        _add_process(worker, replies["stats"][name])


def _add_process(worker: WorkerReply, stats: list[Any]) -> None:
    """Of several processes that share a name, always the same one."""
    process = min(stats, key=lambda process: process.get("pid") or 0)
    worker.pid, worker.uptime_seconds = process.get("pid"), process.get("uptime")
    worker.pool = (process.get("pool") or {}).get("implementation")
