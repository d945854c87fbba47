"""RabbitMQ as a broker: it says how many ready messages and how many consumers each queue has, and nothing else.

What follows from that (`queue.declare`, passive: https://www.rabbitmq.com/docs/specification#rules; `message_count`
counts the messages that are ready, not those delivered and unacknowledged):

- A worker that is connected and does not reply is one consumer too many on its queue.
- When a worker dies, its unacknowledged messages are ready again at once, and will run (again).
- Ids of messages can only be read by taking the messages out, which marks them as redelivered. So while any message is
  ready in a queue, each job of that queue may be that message.
- Where the queues are quorum queues, messages with an eta are in the queues of the native delayed delivery (kombu,
  `transport/native_delayed_delivery.py`). While one is there, a job of any queue may be that message.

What cannot be known: a worker whose connection is closed is no consumer, whether it died, or is shutting down warmly
and still executes (https://github.com/celery/celery/issues/8417), or was cut off, or has a solo pool: a task of more
than about three minutes then keeps it from sending heartbeats, and RabbitMQ closes the connection
(https://github.com/celery/celery/issues/3430).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, ResourceLocked
from kombu import Connection
from kombu.transport.native_delayed_delivery import MAX_LEVEL, level_name

from reaper.liveness.inspect.broker import QueuedMessages, RemovedMessages
from reaper.liveness.inspect.rabbitmq_removal import remove_from_queue

# Workers of queues whose names are not known yet get this long to reply.
_FIRST_REPLY_SECONDS = 1.0


class RabbitMQ:
    """Reads on a channel of its own: asking for a queue that does not exist closes the channel."""

    listeners: int | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._opened_at = time.monotonic()
        self._channel: Any = None
        self.consumers: dict[str, int] | None = {}

    def read_queues(self, queues: Iterable[str], until: float) -> QueuedMessages:  # noqa: ARG002
        """As `Broker.read_queues`; also counts the consumers of each queue."""
        queues = set(queues)
        ready = {queue for queue in queues if self._has_ready_messages(queue)}
        return QueuedMessages(unreadable_queues=queues if self._has_delayed_messages() else ready)

    def is_complete(self, workers_by_queue: Mapping[str, int], workers: int) -> bool:
        """A worker replied, or had the time to, and no queue has more consumers than workers that replied."""
        for queue in workers_by_queue:
            if queue not in self._consumers:
                self._has_ready_messages(queue)
        any_reply = workers > 0 or time.monotonic() - self._opened_at > _FIRST_REPLY_SECONDS
        return any_reply and all(workers_by_queue.get(queue, 0) >= count for queue, count in self._consumers.items())

    def queue_names(self, until: float) -> set[str] | None:  # noqa: ARG002
        """None: only RabbitMQ's management interface names them."""
        return None

    def remove_messages(
        self, queues: Iterable[str], ids: Collection[str], until: float, *, dry_run: bool
    ) -> RemovedMessages:
        """As `Broker.remove_messages`."""
        messages = RemovedMessages()
        for queue in sorted(queues):
            remove_from_queue(self._connection, queue, ids, until, messages, dry_run=dry_run)
        if self._has_delayed_messages():
            messages.left[level_name(MAX_LEVEL)] = "messages with an eta wait in the queues of the delayed delivery"
        return messages

    def close(self) -> None:
        """RabbitMQ logs a warning for each connection that is cut without being closed."""
        self._connection.release()

    @property
    def _consumers(self) -> dict[str, int]:
        assert self.consumers is not None
        return self.consumers

    def _has_ready_messages(self, queue: str) -> bool:
        """True also where that cannot be found out. Also counts the consumers of the queue."""
        try:
            _, messages, consumers = self._passive_declare(queue)
        except NotFound:
            self._consumers[queue] = 0
            return False
        except (AccessRefused, ResourceLocked):
            self._consumers.pop(queue, None)
            return True
        self._consumers[queue] = consumers
        return bool(messages)

    def _has_delayed_messages(self) -> bool:
        """True also where that cannot be found out."""
        levels = [level_name(level) for level in range(MAX_LEVEL, -1, -1)]
        try:
            return any(self._passive_declare(level)[1] for level in levels)
        except NotFound:
            return False  # Either all of these queues exist or none.
        except (AccessRefused, ResourceLocked):
            return True

    def _passive_declare(self, queue: str) -> tuple[str, int, int]:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        name, messages, consumers = self._channel.queue_declare(queue, passive=True)
        return name, messages, consumers
