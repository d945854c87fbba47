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

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from kombu import Connection

from reaper.liveness.inspect.broker import QueuedMessages, RemovedMessages
from reaper.liveness.inspect.redis_messages import (
    ReadBudget,
    list_names,
    read_list,
    read_unacknowledged,
    task_headers,
)
from reaper.liveness.inspect.redis_removal import bound_queues, remove_messages

# More than workers prefetch and a queue usually has. The messages of a longer backlog are not read one by one.
_MAX_MESSAGES = 20_000
_MAX_BYTES = 64 * 2**20


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
        unacknowledged = read_unacknowledged(self._client, self._key(self._channel.unacked_key), budget)
        yield from (raw for _, raw in unacknowledged)

    def _queued(self, queue: str, budget: ReadBudget) -> Iterator[bytes]:
        for name in list_names(queue, self._channel):
            yield from read_list(self._client, self._key(name), budget)

    @staticmethod
    def _read(raw: bytes, messages: QueuedMessages) -> bool:
        """Whether the message has its id in its headers (protocol 2, Celery 4 and later)."""
        headers = task_headers(raw)
        if headers is None:
            return False
        messages.ids[str(headers["id"])] = str(headers.get("task", ""))
        return True
