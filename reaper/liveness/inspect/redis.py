"""Redis says which messages it keeps, one by one, and how many workers heard a question.

What it tells (kombu, `transport/redis.py`):

- PUBLISH returns how many clients it reached: each worker that is connected, also one that is stopped or busy and
  will not answer. Not who they are; a monitor that subscribes to everything counts, too.
- A queue is a list, with a list more for each priority (`queue`, and the queue's name, a separator and a digit).
- A message that was delivered and not acknowledged stands in the hash `unacked`. Whoever held it may be dead: it comes
  back to its queue after the visibility timeout (an hour unless configured), and runs then. So its job is not dead.
- A worker acknowledges when a task begins, or, with `acks_late`, when it has ended: then `unacked` holds running ones.

What it cannot tell: a worker whose connection is closed is not counted, whether it died, or ends warmly and still
executes (https://github.com/celery/celery/issues/8417), or was cut off and does not find back
(https://github.com/celery/celery/issues/8091). Nor is one with remote control switched off. And between BRPOP and
`unacked` a message is in the hands of a worker that does not know it yet; therefore the interview looks and asks twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from kombu import Connection

from reaper.liveness.inspect.broker import QueuedMessages

_AT_A_TIME = 200
# More than workers prefetch and a queue usually holds. A backlog beyond it is not told apart.
_MOST_MESSAGES = 20_000
_MOST_BYTES = 64 * 2**20
# Which steps are in use is in the workers' configuration (`priority_steps`): look for all.
_PRIORITIES = range(1, 10)


@dataclass(slots=True)
class _Budget:
    """How much may still be read."""

    until: float
    messages: int = _MOST_MESSAGES
    size: int = _MOST_BYTES

    def take(self, raw: Iterable[bytes]) -> None:
        for message in raw:
            self.messages -= 1
            self.size -= len(message)

    @property
    def spent(self) -> bool:
        return self.messages <= 0 or self.size <= 0 or time.monotonic() > self.until


class Redis:
    """Reads with a client of its own, on the connections of kombu's channel."""

    consumers: dict[str, int] | None = None

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.default_channel
        # Not kombu's client, which puts the key prefix before the keys of some commands only.
        self._client: Any = redis.Redis(connection_pool=self._channel.pool)
        self.listeners: int | None = None
        self._count_listeners()

    def look(self, queues: Iterable[str], until: float) -> QueuedMessages:
        """As `Broker.look`."""
        queues, budget, kept = set(queues), _Budget(until), QueuedMessages()
        whole = all(self._read(raw, kept) for raw in self._unacknowledged(budget))
        if not whole or budget.spent:
            # It may belong to any queue.
            return QueuedMessages(kept.ids, queues)
        for queue in queues:
            whole = all(self._read(raw, kept) for raw in self._queued(queue, budget))
            if not whole or budget.spent:
                kept.unread.add(queue)
        return kept

    def all_heard(self, answered: Mapping[str, int], workers: int) -> bool:  # noqa: ARG002
        """As many workers answered as were reached."""
        return self.listeners is not None and workers >= self.listeners

    def leave(self) -> None:
        """Nothing to say: the sockets close with the process."""

    def _count_listeners(self) -> None:
        """Note what PUBLISH returns, which kombu lets go by."""
        acquire = self._channel.conn_or_acquire

        def note(reached: int, **_options: Any) -> int:
            # A Sentinel transport may publish twice, on an old topic and a new one: all hear at least one of them.
            self.listeners = max(self.listeners or 0, int(reached))
            return reached

        @contextmanager
        def noting(client: Any = None) -> Iterator[Any]:
            with acquire(client) as acquired:
                acquired.set_response_callback("PUBLISH", note)
                yield acquired

        self._channel.conn_or_acquire = noting

    def _key(self, name: str) -> str:
        return f"{self._channel.global_keyprefix}{name}"

    def _unacknowledged(self, budget: _Budget) -> Iterator[bytes]:
        """Messages of the hash, whose values are `[message, exchange, routing key]`."""
        cursor = None
        while cursor != 0 and not budget.spent:
            cursor, found = self._client.hscan(
                self._key(self._channel.unacked_key), cursor=cursor or 0, count=_AT_A_TIME
            )
            budget.take(found.values())
            yield from found.values()

    def _queued(self, queue: str, budget: _Budget) -> Iterator[bytes]:
        """Messages of a queue's lists, the newest first: a message only ever moves towards the end, which is read
        last, so that none slips by."""
        for name in (queue, *(f"{queue}{self._channel.sep}{priority}" for priority in _PRIORITIES)):
            begin, found = 0, [b""]
            while found and not budget.spent:
                found = self._client.lrange(self._key(name), begin, begin + _AT_A_TIME - 1)
                begin += len(found)
                budget.take(found)
                yield from found

    @staticmethod
    def _read(raw: bytes, kept: QueuedMessages) -> bool:
        """Whether the message told its id (protocol 2, Celery 4 and later: in its headers)."""
        try:
            message = json.loads(raw)
            headers = (message[0] if isinstance(message, list) else message)["headers"]
            kept.ids[str(headers["id"])] = str(headers.get("task", ""))
        except (ValueError, LookupError, TypeError):
            return False
        return True
