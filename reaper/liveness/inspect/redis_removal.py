"""Takes the messages of some tasks out of Redis: each is removed by its exact bytes, and nothing else is touched.

A queue is a list for each of its priorities. In a list that is not changed meanwhile, all of them are removed in one
transaction. Else each is removed by LREM: in one step it removes an element that is equal to the given bytes, and
leaves the order of the others. What others can do between two commands:

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

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import redis

from reaper.liveness.inspect.broker import RemovedMessages
from reaper.liveness.inspect.redis_messages import ReadBudget, list_names, read_list, read_unacknowledged, task_headers

_REMOVED_AT_ONCE = 50
_MAX_MESSAGES = 500_000
_MAX_BYTES = 1 << 30
# The rest of the time is for removing what was found.
_READING_SHARE = 0.7
_SCANNING_SHARE = 0.3

_NOT_ALL_READ = "it has too many messages to read all of them"
_NOT_ALL_REMOVED = "the time was up before all of them were removed"


_Element = tuple[str, bytes, int]
"""A message in a list: its task, its bytes, and its position."""


def bound_queues(client: Any, key: Callable[[str], str], channel: Any, until: float) -> set[str]:
    """The queues that are bound to an exchange (kombu's sets `_kombu.binding.*`), as far as the time allows."""
    pattern = _escaped(key(channel.keyprefix_queue % "")) + "*"
    queues, cursor, deadline = set[str](), None, _share_of(until, _SCANNING_SHARE)
    while cursor != 0 and time.monotonic() < deadline:
        cursor, names = client.scan(cursor or 0, match=pattern, count=1000)
        for name in names:
            members = client.sscan_iter(name, count=500)
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
        for name in map(key, list_names(queue, channel)):
            with client.pipeline(transaction=True) as transaction:
                transaction.watch(name)
                # All of a list is read before anything is removed from it: each removal moves the positions behind it.
                elements = list(_tasks_in(transaction, name, ids, budget))
                if not dry_run and not _remove_together(transaction, name, elements):
                    elements = _remove_singly(client, name, elements, until)
            if budget.spent:
                result.left[queue] = _NOT_ALL_READ
            removed = [task for task, _, _ in elements]
            result.tasks.update(removed)
            if removed:
                result.removed[queue] = result.removed.get(queue, 0) + len(removed)
            if not dry_run and time.monotonic() > until:
                result.left[queue] = _NOT_ALL_REMOVED
    return result


def _remove_unacknowledged(
    client: Any, key: Callable[[str], str], channel: Any, ids: Collection[str], budget: ReadBudget, *, dry_run: bool
) -> set[str]:
    """The tasks whose message was with a worker. It cannot be delivered again when that worker stops or is gone."""
    names = key(channel.unacked_key), key(channel.unacked_index_key)
    unacknowledged = read_unacknowledged(client, names[0], budget)
    tags = {tag: task for tag, raw in unacknowledged if (task := _task_of(raw)) is not None and task in ids}
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


def _tasks_in(client: Any, name: str, ids: Collection[str], budget: ReadBudget) -> Iterator[_Element]:
    """The messages of these tasks in a list, from its head: the newest first."""
    seen = set[bytes]()
    for position, raw in enumerate(read_list(client, name, budget)):
        task = _task_of(raw)
        if task is not None and task in ids and raw not in seen:
            seen.add(raw)
            yield task, raw, position


def _remove_together(transaction: Any, name: str, elements: Sequence[_Element]) -> bool:
    """Remove all of them in one transaction, which Redis refuses (False) when the list has changed since it was read.

    With many messages, this takes a hundredth of the time of removing each by its bytes.
    """
    if not elements:
        return True
    mark = uuid4().hex
    transaction.multi()
    for _, _, position in elements:
        transaction.lset(name, position, mark)
    transaction.lrem(name, 0, mark)
    try:
        transaction.execute()
    except redis.WatchError:
        return False
    return True


def _remove_singly(client: Any, name: str, elements: Sequence[_Element], until: float) -> list[_Element]:
    """Remove each by its bytes, before the time is up; returns those that were still there.

    LREM walks from the end of the list that the sign of its count says, so each message is looked for from the nearer
    end, and the outermost first: what is before it has been removed, or stays.
    """
    middle = client.llen(name) / 2
    from_head = [element for element in elements if element[2] < middle]
    from_tail = [element for element in reversed(elements) if element[2] >= middle]
    removed = list[_Element]()
    for count, side in ((1, from_head), (-1, from_tail)):
        for begin in range(0, len(side), _REMOVED_AT_ONCE):
            if time.monotonic() > until:
                return removed
            part = side[begin : begin + _REMOVED_AT_ONCE]
            with client.pipeline(transaction=False) as commands:
                for _, raw, _ in part:
                    commands.lrem(name, count, raw)
                removed += [element for element, done in zip(part, commands.execute(), strict=True) if done]
    return removed


def _task_of(raw: bytes) -> str | None:
    headers = task_headers(raw)
    return None if headers is None else str(headers["id"])


def _share_of(until: float, share: float) -> float:
    now = time.monotonic()
    return now + max(until - now, 0.0) * share


def _escaped(pattern: str) -> str:
    """A text as a pattern of SCAN that matches this text alone."""
    return "".join(f"\\{character}" if character in "*?[]\\" else character for character in pattern)
