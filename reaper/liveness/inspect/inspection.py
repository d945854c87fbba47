"""The order of questions and looks, so that no job slips through between two of them.

A task moves from its queue to a worker's schedule, to what it has reserved, to what it executes; a retry puts it back
into a queue. Questions are asked in this order, so that one which moves on meanwhile is met further on. One that is on
its way from the broker to a worker, or back, may still be met nowhere: therefore everything is asked twice, with a
look at the broker before each time. To be missed, a task would have to be on its way four times at the wrong moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from kombu import Connection

from reaper.liveness.inspect import InspectReply, InspectRequest, Worker
from reaper.liveness.inspect.broker import Broker, QueuedMessages
from reaper.liveness.inspect.broker_selection import broker_of
from reaper.liveness.inspect.remote_control import Answers, opened

# `safe`: arguments as text, as the task's own might not be JSON (the other two cannot be told so).
_TASKS: Mapping[str, Mapping[str, Any]] = {"scheduled": {}, "reserved": {}, "active": {"safe": True}}
_ALL: Mapping[str, Mapping[str, Any]] = {**_TASKS, "active_queues": {}, "stats": {}}
# Those who answered all of the first round get the rest for the second one, also when somebody is silent.
_FIRST_ROUND_SHARE = 0.7


def interview(connection: Connection, order: InspectRequest, begun: float) -> InspectReply:
    """Everything, in two rounds. Ends as soon as nobody can be missing, else when the time is up."""
    broker, account, kept = broker_of(connection), InspectReply(), QueuedMessages()
    half = begun + (order.until - begun) * _FIRST_ROUND_SHARE
    with opened(connection, order.inbox) as conversation:
        kept.add(broker.look(order.queues, half))
        first = conversation.put(_ALL)
        conversation.listen(lambda: _nobody_missing(broker, first), half)
        whole = _whole(first)
        kept.add(broker.look({*order.queues, *_consumed(first)}, order.until))
        second = conversation.put(_TASKS)
        conversation.listen(lambda: not whole - _whole(second), order.until)
    broker.leave()
    for answers in (first, second):
        _take_in(answers, account)
    _take_in_workers(first, whole & _whole(second), account)
    account.queued, account.waiting = kept.ids, sorted(kept.unread)
    account.listeners, account.consumers = broker.listeners, broker.consumers
    return account


def revoke(connection: Connection, order: InspectRequest) -> InspectReply:
    """Revoked and terminated, by all workers: also by one that would get the message later."""
    broker = broker_of(connection)
    words = {"task_id": list(order.revoke), "terminate": True, "signal": order.signal}
    with opened(connection, order.inbox) as conversation:
        answers = conversation.put({"revoke": words})
        # RabbitMQ does not say how many there are: the first answer is enough there.
        conversation.listen(lambda: broker.all_heard({}, _whole(answers).total()), order.until)
    broker.leave()
    account = InspectReply(listeners=broker.listeners, consumers=broker.consumers)
    account.workers = {name: Worker(complete_answers=count) for name, count in _whole(answers).items()}
    return account


def _whole(answers: Answers) -> Counter[str]:
    """How many of each name answered all of the questions."""
    names = {name for given in answers.values() for name in given}
    least = {name: min(len(given.get(name, ())) for given in answers.values()) for name in names}
    return Counter({name: count for name, count in least.items() if count})


def _consumed(answers: Answers) -> Counter[str]:
    """How many of those who answered all of the questions consume each queue."""
    whole = _whole(answers)
    return Counter(
        queue["name"]
        for name, given in answers["active_queues"].items()
        for queues in given[: whole[name]]
        for queue in queues or ()
    )


def _nobody_missing(broker: Broker, answers: Answers) -> bool:
    return broker.all_heard(_consumed(answers), _whole(answers).total())


def _take_in(answers: Answers, account: InspectReply) -> None:
    """Tasks, whoever answered what: a part of an answer is no reason to overlook what it says."""
    for method in _TASKS:
        for name, given in answers[method].items():
            worker = account.workers.setdefault(name, Worker())
            tasks = worker.executing if method == "active" else worker.held
            for entry in (entry for entries in given for entry in entries or ()):
                request = entry.get("request", entry)
                tasks[str(request["id"])] = str(request.get("name") or "")


def _take_in_workers(answers: Answers, whole: Counter[str], account: InspectReply) -> None:
    for name, count in whole.items():
        worker = account.workers[name]
        worker.complete_answers = count
        worker.queues = [[str(queue["name"]) for queue in queues or ()] for queues in answers["active_queues"][name]]
        _introduce(worker, answers["stats"][name])


def _introduce(worker: Worker, stats: list[Any]) -> None:
    """Where workers share a name: always the same one of them."""
    told = min(stats, key=lambda one: one.get("pid") or 0)
    worker.pid, worker.uptime_seconds = told.get("pid"), told.get("uptime")
    worker.pool = (told.get("pool") or {}).get("implementation")
