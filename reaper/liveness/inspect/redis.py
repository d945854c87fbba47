"""Redis as a broker: it shows each message that it keeps, and how many workers received a command.

What follows from that (kombu, `transport/redis.py`):

- PUBLISH returns how many clients it reached: each worker that is connected, also one that is stopped or busy and will
  not reply. It does not name them, and a monitor that subscribes to everything counts too.
- A queue is a list, with one more list for each priority (`queue`, and the queue's name, a separator and a digit).
- A message that was delivered and not acknowledged is in the hash `unacked`. Even if its worker is dead, it comes back
  to its queue after the visibility timeout (an hour unless configured), and runs then. So its job is not dead.
- A worker acknowledges when a task starts, or, with `acks_late`, when it has ended: then `unacked` has running tasks.

What cannot be known: a worker whose connection is closed is not counted, whether it died, or is shutting down warmly
and still executes (https://github.com/celery/celery/issues/8417), or was cut off and does not reconnect
(https://github.com/celery/celery/issues/8091). Nor is a worker with remote control switched off. And between BRPOP and
`unacked`, a message is with a worker that does not know it yet: so the inspection reads and asks twice.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from kombu import Connection

from reaper.liveness.inspect.broker import QueuedMessages, RemovedMessages
from reaper.liveness.inspect.redis_removal import ReadBudget, bound_queues, remove_messages

_CHUNK = 200
# More than workers prefetch and a queue usually has. The messages of a longer backlog are not read one by one.
_MAX_MESSAGES = 20_000
_MAX_BYTES = 64 * 2**20
# Which priorities are in use is in the workers' configuration (`priority_steps`): read all.
_PRIORITIES = range(1, 10)


class Redis:
    """Reads with its own client on the connections of kombu's channel."""

    consumers: dict[str, int] | None = None

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.default_channel
        # Not kombu's client, which adds the key prefix for some commands only.
        self._client: Any = redis.Redis(connection_pool=self._channel.pool)
        self.listeners: int | None = None
        self._count_listeners()

    def read_queues(self, queues: Iterable[str], until: float) -> QueuedMessages:
        """As `Broker.read_queues`."""
        queues, budget, messages = set(queues), ReadBudget(until, _MAX_MESSAGES, _MAX_BYTES), QueuedMessages()
        all_read = all(self._read(raw, messages) for raw in self._unacknowledged(budget))
        if not all_read or budget.spent:
            # A message that was not read may belong to any queue.
            return QueuedMessages(messages.ids, queues)
        for queue in queues:
            all_read = all(self._read(raw, messages) for raw in self._queued(queue, budget))
            if not all_read or budget.spent:
                messages.unreadable_queues.add(queue)
        return messages

    def is_complete(self, workers_by_queue: Mapping[str, int], workers: int) -> bool:  # noqa: ARG002
        """As many workers replied as received the command."""
        return self.listeners is not None and workers >= self.listeners

    def queue_names(self, until: float) -> set[str]:
        """As `Broker.queue_names`."""
        return bound_queues(self._client, self._key, self._channel, until)

    def remove_messages(
        self, queues: Iterable[str], ids: Collection[str], until: float, *, dry_run: bool
    ) -> RemovedMessages:
        """As `Broker.remove_messages`."""
        return remove_messages(self._client, self._key, self._channel, queues, ids, until, dry_run=dry_run)

    def close(self) -> None:
        """Redis needs no goodbye: the sockets close with the process."""

    def _count_listeners(self) -> None:
        """Record what PUBLISH returns, which kombu drops."""
        acquire = self._channel.conn_or_acquire

        def record(reached: int, **_options: Any) -> int:
            # A Sentinel transport may publish twice, on an old topic and a new one: each worker receives one of them.
            self.listeners = max(self.listeners or 0, int(reached))
            return reached

        @contextmanager
        def recording(client: Any = None) -> Iterator[Any]:
            with acquire(client) as acquired:
                acquired.set_response_callback("PUBLISH", record)
                yield acquired

        self._channel.conn_or_acquire = recording

    def _key(self, name: str) -> str:
        return f"{self._channel.global_keyprefix}{name}"

    def _unacknowledged(self, budget: ReadBudget) -> Iterator[bytes]:
        """The values of the hash `unacked`, each `[message, exchange, routing key]`."""
        cursor = None
        while cursor != 0 and not budget.spent:
            cursor, messages = self._client.hscan(
                self._key(self._channel.unacked_key), cursor=cursor or 0, count=_CHUNK
            )
            budget.spend(messages.values())
            yield from messages.values()

    def _queued(self, queue: str, budget: ReadBudget) -> Iterator[bytes]:
        """The messages of a queue's lists, the newest first.

        Messages only move towards the end of a list, which is read last, so that none is missed.
        """
        for name in (queue, *(f"{queue}{self._channel.sep}{priority}" for priority in _PRIORITIES)):
            begin, messages = 0, [b""]
            while messages and not budget.spent:
                messages = self._client.lrange(self._key(name), begin, begin + _CHUNK - 1)
                begin += len(messages)
                budget.spend(messages)
                yield from messages

    @staticmethod
    def _read(raw: bytes, messages: QueuedMessages) -> bool:
        """Whether the message has its id in its headers (protocol 2, Celery 4 and later)."""
        try:
            message = json.loads(raw)
            headers = (message[0] if isinstance(message, list) else message)["headers"]
            messages.ids[str(headers["id"])] = str(headers.get("task", ""))
        except (ValueError, LookupError, TypeError):
            return False
        return True
