"""Questions to all workers at once, and their replies, over kombu's remote control protocol.

A question is a JSON message to the fanout exchange `celery.pidbox`; each worker replies, to the queue that the
question names, with `{its name: answer}` and the question's ticket (kombu, `kombu/pidbox.py`; the answers' shapes are
those of `celery/worker/control.py`). All questions of a round are sent before the first reply is awaited. Celery's own
`inspect` waits its whole timeout for each of them, over a pool of connections that retries by itself.

Only JSON is read. A worker with `task_serializer = "pickle"` replies in pickle, which can run code of whoever may
write to the broker: it stays unread, so that its jobs are unknown.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from kombu import Connection, Consumer, Exchange, Producer, Queue

# `control_exchange` is "celery" unless somebody changed it (celery/app/defaults.py).
_PIDBOX = Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
_REPLIES = Exchange("reply.celery.pidbox", type="direct", durable=False, delivery_mode="transient")
# Replies that nobody fetched, and the queue itself where nobody could take it down, go by themselves.
_EXPIRES_SECONDS = 60.0
_LOOKING_UP_SECONDS = 0.5

Answers = Mapping[str, Mapping[str, list[Any]]]
"""Question → worker → its answers: more than one where workers share a name."""


class Conversation:
    """One connection's questions and replies; `with opened(...)` begins and ends it."""

    def __init__(self, connection: Connection, consumer: Consumer, producer: Producer, inbox: Queue) -> None:
        self._connection, self._consumer, self._producer, self._inbox = connection, consumer, producer, inbox
        self._tickets: dict[str, tuple[str, dict[str, list[Any]]]] = {}
        consumer.register_callback(self._on_reply)
        consumer.consume()

    def put(self, questions: Mapping[str, Mapping[str, Any]]) -> Answers:
        """Send them to all workers, in their order; the answers appear in what is returned while `listen` runs."""
        answers: dict[str, dict[str, list[Any]]] = {}
        for method, arguments in questions.items():
            ticket, answers[method] = uuid4().hex, defaultdict(list)
            self._tickets[ticket] = method, answers[method]
            self._producer.publish(
                {
                    "method": method,
                    "arguments": dict(arguments),
                    "destination": None,
                    "pattern": None,
                    "matcher": None,
                    "ticket": ticket,
                    "reply_to": {"exchange": _REPLIES.name, "routing_key": self._inbox.routing_key},
                },
                exchange=_PIDBOX.name,
                declare=[_PIDBOX],
                headers={"clock": 0, "expires": 0},
                serializer="json",
                retry=False,
            )
        return answers

    def listen(self, enough: Callable[[], bool], until: float) -> bool:
        """Take in replies until there are enough (True) or it is too late (False)."""
        while not enough():
            left = until - time.monotonic()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=min(left, _LOOKING_UP_SECONDS))
        return True

    def _on_reply(self, body: Any, message: Any) -> None:
        # A ticket that is not ours: a reply to an earlier interview, which the worker gave late.
        _, answers = self._tickets.get(message.headers.get("ticket", ""), ("", None))
        if answers is None or not isinstance(body, dict):
            return
        for worker, answer in body.items():
            # A worker that failed over a question says so in place of its answer.
            if not (isinstance(answer, dict) and "error" in answer):
                answers[worker].append(answer)


@contextmanager
def opened(connection: Connection, inbox_name: str) -> Iterator[Conversation]:
    """A conversation on an open connection. Leaves nothing behind at the broker."""
    inbox = Queue(
        f"{inbox_name}.{_REPLIES.name}",
        exchange=_REPLIES,
        routing_key=inbox_name,
        durable=False,
        exclusive=True,
        auto_delete=True,
        expires=_EXPIRES_SECONDS,
    )
    channel = connection.default_channel
    consumer = Consumer(channel, [inbox], accept=["json"], no_ack=True, on_decode_error=_unread)
    try:
        yield Conversation(connection, consumer, Producer(channel, auto_declare=False), inbox)
    finally:
        consumer.cancel()
        inbox(channel).delete()


def _unread(_message: Any, _error: Exception) -> None:
    """A reply that is not JSON stays unread: its worker has not answered."""
