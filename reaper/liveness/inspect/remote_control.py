"""Celery's remote control: commands to all workers at once, and their replies, over kombu's protocol.

A command is a JSON message to the fanout exchange `celery.pidbox`. Each worker replies, to the queue that the command
names, with `{its name: reply}` and the command's ticket (kombu, `kombu/pidbox.py`; the shapes of the replies are in
`celery/worker/control.py`). All commands of a round are sent before the first reply is awaited. Celery's own `inspect`
waits its whole timeout for each command, over a pool of connections that retries by itself.

Only JSON is read. A worker with `task_serializer = "pickle"` replies in pickle, which can run code of anyone who may
write to the broker. Such a reply is not read, so the worker's jobs are unknown.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from kombu import Connection, Consumer, Exchange, Producer, Queue

# `control_exchange` is "celery" unless it was configured otherwise (celery/app/defaults.py).
_COMMANDS = Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
_REPLIES = Exchange("reply.celery.pidbox", type="direct", durable=False, delivery_mode="transient")
# The broker deletes replies that were not read, and the queue itself where it could not be deleted, after this time.
_EXPIRES_SECONDS = 60.0
_POLL_SECONDS = 0.5

Replies = Mapping[str, Mapping[str, list[Any]]]
"""Command → worker → its replies: more than one where workers share a name."""


class RemoteControl:
    """The commands and replies of one connection; made and closed by `open_remote_control`."""

    def __init__(self, connection: Connection, consumer: Consumer, producer: Producer, reply_queue: Queue) -> None:
        self._connection, self._consumer, self._producer = connection, consumer, producer
        self._reply_queue = reply_queue
        self._replies_by_ticket: dict[str, dict[str, list[Any]]] = {}
        consumer.register_callback(self._on_reply)
        consumer.consume()

    def broadcast(self, commands: Mapping[str, Mapping[str, Any]]) -> Replies:
        """Send the commands to all workers, in their order. `collect` adds the replies to the returned mapping."""
        replies: dict[str, dict[str, list[Any]]] = {}
        for method, arguments in commands.items():
            ticket, replies[method] = uuid4().hex, defaultdict(list)
            self._replies_by_ticket[ticket] = replies[method]
            self._producer.publish(
                {
                    "method": method,
                    "arguments": dict(arguments),
                    "destination": None,
                    "pattern": None,
                    "matcher": None,
                    "ticket": ticket,
                    "reply_to": {"exchange": _REPLIES.name, "routing_key": self._reply_queue.routing_key},
                },
                exchange=_COMMANDS.name,
                declare=[_COMMANDS],
                headers={"clock": 0, "expires": 0},
                serializer="json",
                retry=False,
            )
        return replies

    def collect(self, is_complete: Callable[[], bool], until: float) -> bool:
        """Receive replies until they are complete (True) or the time is up (False)."""
        while not is_complete():
            left = until - time.monotonic()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=min(left, _POLL_SECONDS))
        return True

    def _on_reply(self, body: Any, message: Any) -> None:
        # Another ticket is that of an earlier inspection, whose reply came late.
        replies = self._replies_by_ticket.get(message.headers.get("ticket", ""))
        if replies is None or not isinstance(body, dict):
            return
        for worker, reply in body.items():
            # A worker whose command failed sends the error instead of a reply.
            if not (isinstance(reply, dict) and "error" in reply):
                replies[worker].append(reply)


@contextmanager
def open_remote_control(connection: Connection, queue_name: str) -> Iterator[RemoteControl]:
    """Remote control on an open connection. Leaves nothing behind at the broker."""
    reply_queue = Queue(
        f"{queue_name}.{_REPLIES.name}",
        exchange=_REPLIES,
        routing_key=queue_name,
        durable=False,
        exclusive=True,
        auto_delete=True,
        expires=_EXPIRES_SECONDS,
    )
    channel = connection.default_channel
    consumer = Consumer(channel, [reply_queue], accept=["json"], no_ack=True, on_decode_error=_skip_reply)
    try:
        yield RemoteControl(connection, consumer, Producer(channel, auto_declare=False), reply_queue)
    finally:
        consumer.cancel()
        reply_queue(channel).delete()


def _skip_reply(_message: Any, _error: Exception) -> None:
    """A reply that is not JSON is not read: the worker counts as one that did not reply."""
