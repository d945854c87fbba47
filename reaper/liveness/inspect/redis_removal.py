"""Takes the messages of some tasks out of Redis: each is removed by its exact bytes, and nothing else is touched.

A queue is a list for each of its priorities. LREM removes one element that is equal to the given bytes, in one step,
and leaves the order of the others. What others can do between two commands:

- A producer pushes a message at the head: the positions behind it move towards the end. The reading goes in that
  direction, so a message may be read twice and none is missed.
- A worker pops a message that was read: LREM finds nothing, and it is not counted. The worker got the command to revoke
  its task before the reading began.
- A worker that stops, or finds that another one's time is up, puts unacknowledged messages back, with other bytes
  (`redelivered`). Those are looked at first, so what is put back meanwhile is found in its list. What kombu watches
  while it does that (`unacked`) is what is removed, so no message is in both places.
- A worker that acknowledges a message later finds nothing to remove, which is no error to it.
- A second reset removes it first: LREM finds nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reaper.liveness.inspect.broker import RemovedMessages

_CHUNK = 500
_MAX_MESSAGES = 500_000
_MAX_BYTES = 1 << 30
# Besides the priorities of the connection's options: which ones are in use is in the configuration of the workers.
_PRIORITIES = range(1, 10)
# The rest of the time is for removing what was found.
_READING_SHARE = 0.7
_SCANNING_SHARE = 0.3

_NOT_ALL_READ = "it has too many messages to read them all"


@dataclass(slots=True)
class ReadBudget:
    """How much may still be read, and until when on the monotonic clock."""

    until: float
    messages: int
    size: int

    def spend(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            self.messages -= 1
            self.size -= len(message)

    @property
    def spent(self) -> bool:
        return self.messages <= 0 or self.size <= 0 or time.monotonic() > self.until


def bound_queues(client: Any, key: Callable[[str], str], channel: Any, until: float) -> set[str]:
    """The queues that are bound to an exchange (kombu's sets `_kombu.binding.*`), as far as the time allows."""
    pattern = _escaped(key(channel.keyprefix_queue % "")) + "*"
    queues, cursor, deadline = set[str](), None, _share_of(until, _SCANNING_SHARE)
    while cursor != 0 and time.monotonic() < deadline:
        cursor, names = client.scan(cursor or 0, match=pattern, count=1000)
        for name in names:
            members = client.sscan_iter(name, count=_CHUNK)
            queues.update(member.decode(errors="replace").split(channel.sep)[-1] for member in members)
    return {queue for queue in queues if queue and ".pidbox" not in queue and not queue.startswith("celeryev")}


def remove_messages(
    client: Any,
    key: Callable[[str], str],
    channel: Any,
    queues: Iterable[str],
    ids: Collection[str],
    until: float,
    *,
    dry_run: bool,
) -> RemovedMessages:
    """Remove the messages of these tasks from the queues, and those that were delivered and not acknowledged."""
    result = RemovedMessages()
    budget = ReadBudget(_share_of(until, _READING_SHARE), _MAX_MESSAGES, _MAX_BYTES)
    # First, for from there a message goes back into its queue.
    result.unacknowledged = _remove_unacknowledged(client, key, channel, ids, budget, dry_run=dry_run)
    for queue in sorted(queues):
        # All of a list is read before anything is removed from it: each removal moves the positions behind it.
        found = {
            list_name: [raw for raw in _elements(client, list_name, budget) if _task_of(raw) in ids]
            for list_name in map(key, _list_names(queue, channel))
        }
        removed = [
            task for name, messages in found.items() for task in _remove(client, name, messages, until, dry_run=dry_run)
        ]
        if removed:
            result.removed[queue] = len(removed)
            result.tasks.update(removed)
        if budget.spent:
            result.left[queue] = _NOT_ALL_READ
    return result


def _list_names(queue: str, channel: Any) -> Iterator[str]:
    yield queue
    yield from (f"{queue}{channel.sep}{step}" for step in sorted({*_PRIORITIES, *channel.priority_steps} - {0}))


def _remove_unacknowledged(
    client: Any, key: Callable[[str], str], channel: Any, ids: Collection[str], budget: ReadBudget, *, dry_run: bool
) -> set[str]:
    """The tasks whose message was with a worker. It cannot be delivered again when that worker stops or is gone."""
    names, tags = (key(channel.unacked_key), key(channel.unacked_index_key)), dict[bytes, str]()
    cursor = None
    while cursor != 0 and not budget.spent:
        cursor, entries = client.hscan(names[0], cursor=cursor or 0, count=_CHUNK)
        budget.spend(entries.values())
        tags |= {tag: task for tag, raw in entries.items() if (task := _task_of(raw)) is not None and task in ids}
    if dry_run:
        return set(tags.values())
    removed = set[str]()
    for tag, task in tags.items():
        with client.pipeline(transaction=True) as both:
            both.hdel(names[0], tag)
            both.zrem(names[1], tag)
            if both.execute()[0]:
                removed.add(task)
    return removed


def _elements(client: Any, name: str, budget: ReadBudget) -> Iterator[bytes]:
    """The messages of a list, from its head: the newest first."""
    begin, messages = 0, [b""]
    while messages and not budget.spent:
        messages = client.lrange(name, begin, begin + _CHUNK - 1)
        begin += len(messages)
        budget.spend(messages)
        yield from messages


def _remove(client: Any, name: str, messages: list[bytes], until: float, *, dry_run: bool) -> Iterator[str]:
    """The task of each message that was removed from this list; in a dry run, of each that is there."""
    for raw in dict.fromkeys(messages):
        task = _task_of(raw)
        if task is not None and (dry_run or (time.monotonic() < until and client.lrem(name, 1, raw))):
            yield task


def _task_of(raw: bytes) -> str | None:
    """The id of the task in the headers of a message (protocol 2, Celery 4 and later)."""
    try:
        message = json.loads(raw)
        headers = (message[0] if isinstance(message, list) else message)["headers"]
        return str(headers["id"])
    except (ValueError, LookupError, TypeError):
        return None


def _share_of(until: float, share: float) -> float:
    now = time.monotonic()
    return now + max(until - now, 0.0) * share


def _escaped(pattern: str) -> str:
    """A text as a pattern of SCAN that matches this text alone."""
    return "".join(f"\\{character}" if character in "*?[]\\" else character for character in pattern)
