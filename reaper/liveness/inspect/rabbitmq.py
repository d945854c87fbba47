"""RabbitMQ says of each queue how many messages are ready and how many consumers it has, and no more.

What it tells (`queue.declare`, passive: https://www.rabbitmq.com/docs/specification#rules, `message_count` counts the
messages that are ready, not those delivered and unacknowledged):

- A worker that is connected and silent is one consumer too many on its queue.
- A worker that died has its unacknowledged messages put back at once: they are ready, and will run (again).
- The messages cannot be told apart without taking them out, which marks them as redelivered. So while any message is
  ready in a queue, a job of that queue may be it.
- Messages with an eta, where the queues are quorum queues, do not stand in their queue but in those of the native
  delayed delivery (kombu, `transport/native_delayed_delivery.py`); while one does, a job of any queue may be it.

What it cannot tell: a worker whose connection is closed is no consumer, whether it died, or ends warmly and still
executes (https://github.com/celery/celery/issues/8417), or was cut off, or has a solo pool: a task of more than about
three minutes then keeps it from sending heartbeats, and RabbitMQ closes the connection
(https://github.com/celery/celery/issues/3430).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, ResourceLocked
from kombu import Connection
from kombu.transport.native_delayed_delivery import MAX_LEVEL, level_name

from reaper.liveness.inspect.broker import QueuedMessages

_MOMENT_SECONDS = 1.0


class RabbitMQ:
    """Looks on a channel of its own: a question for a queue that does not exist closes its channel."""

    listeners: int | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begun = time.monotonic()
        self._channel: Any = None
        self.consumers: dict[str, int] | None = {}

    def look(self, queues: Iterable[str], until: float) -> QueuedMessages:  # noqa: ARG002
        """As `Broker.look`; notes how many consumers each of them has."""
        queues = set(queues)
        ready = {queue for queue in queues if self._ready(queue)}
        return QueuedMessages(unread=queues if self._delayed() else ready)

    def all_heard(self, answered: Mapping[str, int], workers: int) -> bool:
        """Somebody answered, or could have, and no queue has more consumers than workers that answered."""
        for queue in answered:
            if queue not in self._consumers:
                self._ready(queue)
        # Workers of queues that are not known may take a moment.
        met = workers > 0 or time.monotonic() - self._begun > _MOMENT_SECONDS
        return met and all(answered.get(queue, 0) >= count for queue, count in self._consumers.items())

    def leave(self) -> None:
        """Properly: RabbitMQ logs a warning for each connection that is merely cut."""
        self._connection.release()

    @property
    def _consumers(self) -> dict[str, int]:
        assert self.consumers is not None
        return self.consumers

    def _ready(self, queue: str) -> bool:
        """Whether messages are ready; True where that cannot be found out. Notes the number of consumers."""
        try:
            _, messages, consumers = self._declared(queue)
        except NotFound:
            self._consumers[queue] = 0
            return False
        except (AccessRefused, ResourceLocked):
            self._consumers.pop(queue, None)
            return True
        self._consumers[queue] = consumers
        return bool(messages)

    def _delayed(self) -> bool:
        levels = [level_name(level) for level in range(MAX_LEVEL, -1, -1)]
        try:
            return any(self._declared(level)[1] for level in levels)
        except NotFound:
            return False  # They are declared all together, or not at all.
        except (AccessRefused, ResourceLocked):
            return True

    def _declared(self, queue: str) -> tuple[str, int, int]:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        name, messages, consumers = self._channel.queue_declare(queue, passive=True)
        return name, messages, consumers
