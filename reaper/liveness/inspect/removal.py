"""Removes tasks that are not to run: with the workers that have them, and from the queues in which they wait.

The order: first the workers say what they have. Then all of them get the command to revoke the tasks, so that a worker
which receives one from now on throws it away. Then the messages are taken out of the queues. Last, the workers are
asked which of the tasks they still execute.

With Redis, the messages that workers keep unacknowledged are taken out, too, so that a restart of the workers does not
bring them back. RabbitMQ keeps those to itself.

A worker that does not reply gets the revocation all the same, unless it is gone: Redis and RabbitMQ deliver it when it
listens again, as long as its connection lasts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from kombu import Connection

from reaper.liveness import TaskRemoval
from reaper.liveness.inspect import InspectReply, InspectRequest
from reaper.liveness.inspect.broker import Broker, broker_of
from reaper.liveness.inspect.inspection import (
    ALL_COMMANDS,
    add_tasks,
    broadcast_revocation,
    consumed_queues,
    is_complete,
    workers_that_replied,
)
from reaper.liveness.inspect.remote_control import RemoteControl, open_remote_control

_REPLY_SECONDS = 5.0
_REVOKED_AT_ONCE = 1_000
# A worker remembers no more than so many (celery/worker/state.py, REVOKES_MAX), and forgets the oldest beyond them.
_MAX_REVOKED = 50_000
# A task ends some time after its signal, and its worker takes note of that some time later.
_END_SECONDS = 5.0
_POLL_SECONDS = 0.2


def remove_tasks(connection: Connection, request: InspectRequest) -> InspectReply:
    """Remove the tasks of `request.remove`, or only count them in a dry run."""
    broker, ids = broker_of(connection), frozenset(request.remove)
    with open_remote_control(connection, request.reply_queue) as control:
        replies = control.broadcast(ALL_COMMANDS)
        control.collect(lambda: is_complete(broker, replies), _reply_deadline(request))
        answer = InspectReply()
        add_tasks(replies, answer)
        executing = {id_: name for name, worker in answer.workers.items() for id_ in worker.executing if id_ in ids}
        held = {id_ for worker in answer.workers.values() for id_ in worker.reserved} & ids - executing.keys()
        if not request.dry_run:
            _revoke(control, broker, request)
        named = broker.queue_names(request.until)
        queues = {*request.queues, *consumed_queues(replies), *(named or ())}
        messages = broker.remove_messages(queues, ids, request.until - _END_SECONDS, dry_run=request.dry_run)
        still = {} if request.dry_run else _still_executing(control, executing, request.until)
    broker.close()
    elsewhere = ids - executing.keys() - held - messages.tasks - messages.unacknowledged
    return InspectReply(
        removal=TaskRemoval(
            executing=len(executing),
            still_executing=len(still),
            held=len(held),
            removed=messages.removed,
            unacknowledged=len(messages.unacknowledged - executing.keys() - held),
            revoked_only=len(held - messages.unacknowledged),
            # Where all of the tasks have been found, none of them is in a queue that could not be searched.
            left=messages.left if elsewhere else {},
            not_found=len(elsewhere) if named is None and not messages.left else 0,
            searched=sorted(queues),
            workers=workers_that_replied(replies).total(),
        )
    )


def _revoke(control: RemoteControl, broker: Broker, request: InspectRequest) -> None:
    remembered = request.remove[-_MAX_REVOKED:]
    for begin in range(0, len(remembered), _REVOKED_AT_ONCE):
        ids = remembered[begin : begin + _REVOKED_AT_ONCE]
        broadcast_revocation(control, broker, ids, request.signal, _reply_deadline(request))


def _still_executing(control: RemoteControl, executing: Mapping[str, str], until: float) -> dict[str, str]:
    """The tasks that their worker still executes when their time to end is over, or that it says nothing of."""
    still, deadline = dict(executing), min(until, time.monotonic() + _END_SECONDS)
    while still and time.monotonic() < deadline:
        workers = set(still.values())
        replies = control.broadcast({"active": {"safe": True}})
        control.collect(partial(workers.issubset, replies["active"]), deadline)
        answer = InspectReply()
        add_tasks({**replies, "scheduled": {}, "reserved": {}}, answer)
        still = {
            id_: worker
            for id_, worker in still.items()
            if worker not in answer.workers or id_ in answer.workers[worker].executing
        }
        if still:
            time.sleep(_POLL_SECONDS)
    return still


def _reply_deadline(request: InspectRequest) -> float:
    return min(request.until, time.monotonic() + _REPLY_SECONDS)
