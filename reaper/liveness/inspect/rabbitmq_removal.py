"""Takes the messages of some tasks out of a RabbitMQ queue, where that leaves the other messages as they are.

RabbitMQ can give messages out and take them back, but not remove one of many. So the ready messages are fetched on one
channel, those of the tasks are acknowledged, and the channel is closed: RabbitMQ then puts all others back, each to its
place, marked as redelivered. If this process is killed, its connection closes, and all of them go back.

That is safe under three conditions, and each is checked before the first message is fetched:

- The queue is a classic one. A quorum queue counts each return of a message, and drops it after some (its delivery
  limit); a stream returns nothing.
- It has no consumers. A worker would find the queue empty meanwhile, and take later messages before earlier ones.
- It has no more than MAX_READY ready messages: all of them are in memory and out of the queue for that time.

What others can do meanwhile: a producer publishes a message, which is not fetched and stays last; a worker that begins
to consume gets what is published meanwhile, and then what is put back; a second reset finds fewer messages, and
puts its own back, too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from kombu import Connection

from reaper.liveness.inspect.broker import RemovedMessages

MAX_READY = 5_000
_MAX_BYTES = 256 * 2**20
_MAX_ARGUMENTS = 8
_TYPE, _UNKNOWN_TYPE = "x-queue-type", "unknown"
# How RabbitMQ says that a queue was declared with another argument (rabbit_misc:assert_args_equivalence).
_OTHER_ARGUMENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .*: received .* but current is (?:the value )?'?(?P<value>[^']*)'?"
    r"(?: of type '(?P<type>\w+)')?"
)


def remove_from_queue(
    connection: Connection,
    queue: str,
    ids: Collection[str],
    until: float,
    result: RemovedMessages,
    *,
    dry_run: bool,
) -> None:
    """Add to `result` what was removed, or would be, or why nothing can be. A queue that does not exist has nothing."""
    try:
        with connection.channel() as channel:
            _, ready, consumers = channel.queue_declare(queue, passive=True)
        if not ready:
            return
        if reason := _why_not(connection, queue, ready, consumers):
            result.left[queue] = reason
            return
        removed, all_read = _fetch_and_remove(connection, queue, ids, until, dry_run=dry_run)
    except NotFound:
        return
    except (AccessRefused, ResourceLocked):
        result.left[queue] = "this user may not read it"
        return
    if removed:
        result.removed[queue] = len(removed)
        result.tasks.update(removed.values())
    if not all_read:
        result.left[queue] = "its messages were too large to read all of them in time"


def _why_not(connection: Connection, queue: str, ready: int, consumers: int) -> str | None:
    """Why no message can be taken out of the queue without touching the others; None where it can be."""
    if consumers:
        return f"it has {consumers} consumer(s), and only the message of a queue without consumers can be taken out"
    if ready > MAX_READY:
        return f"it has {ready} ready messages, and at most {MAX_READY} are looked through"
    kind = _type_of(connection, queue)
    if kind == _UNKNOWN_TYPE:
        return "its type is not known, and only the messages of a classic queue can be put back as they were"
    if kind != "classic":
        return f"it is a {kind} queue, and only the messages of a classic queue can be put back as they were"
    return None


def _type_of(connection: Connection, queue: str) -> str:
    """`classic`, another type, or `_UNKNOWN_TYPE`.

    AMQP has no question for it. A declaration with other arguments than those of the queue is refused, and the refusal
    names the first argument that differs, with its value. The queue exists, so nothing is declared; where it was
    deleted a moment ago, an empty classic queue of its name is.
    """
    arguments: dict[str, Any] = {_TYPE: "classic"}
    flags = {"durable": True, "exclusive": False, "auto_delete": False}
    for _ in range(_MAX_ARGUMENTS):
        try:
            with connection.channel() as channel:
                channel.queue_declare(queue, arguments=arguments, **flags)
        except PreconditionFailed as error:
            other = _OTHER_ARGUMENT.search(str(error))
            if other is None or other["name"] == _TYPE:
                return other["value"] if other else _UNKNOWN_TYPE
            if other["name"] in flags:
                flags[other["name"]] = other["value"] == "true"
            else:
                arguments[other["name"]] = _value(other["value"], other["type"])
        else:
            return "classic"
    return _UNKNOWN_TYPE


def _value(text: str, kind: str | None) -> Any:
    if kind in ("longstr", None):
        return text
    return text == "true" if kind == "bool" else int(text)


def _fetch_and_remove(
    connection: Connection, queue: str, ids: Collection[str], until: float, *, dry_run: bool
) -> tuple[dict[str, str], bool]:
    """Delivery tag and task of each message that was acknowledged, and whether all were read.

    Closing the channel puts the others back.
    """
    tasks, size = dict[str, str](), 0
    with connection.channel() as channel:
        for _ in range(MAX_READY):
            if time.monotonic() > until or size > _MAX_BYTES:
                return _acknowledge(channel, tasks, dry_run=dry_run), False
            message = channel.basic_get(queue)
            if message is None:
                break
            size += len(message.body)
            headers = message.properties.get("application_headers") or {}
            if (task := str(headers.get("id"))) in ids:
                tasks[message.delivery_tag] = task
        return _acknowledge(channel, tasks, dry_run=dry_run), True


def _acknowledge(channel: Any, tasks: dict[str, str], *, dry_run: bool) -> dict[str, str]:
    for tag in () if dry_run else tasks:
        channel.basic_ack(tag)
    return tasks
