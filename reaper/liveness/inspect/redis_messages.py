"""Where Redis keeps the messages of Celery: the lists of each queue, and the hash of what is not acknowledged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CHUNK = 200
# Which priorities are in use is in the workers' configuration (`priority_steps`): read all that kombu has.
_PRIORITIES = range(1, 10)


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


def list_names(queue: str, channel: Any) -> Iterator[str]:
    """The lists of a queue, without the key prefix: each other priority than 0 has a list of its own."""
    yield queue
    yield from (f"{queue}{channel.sep}{priority}" for priority in _PRIORITIES)


def read_list(client: Any, name: str, budget: ReadBudget) -> Iterator[bytes]:
    """The messages of a list from its head, the newest first, as far as the budget goes.

    Messages only move towards the end of a list, which is read last, so that none is missed.
    """
    begin, messages = 0, [b""]
    while messages and not budget.spent:
        messages = client.lrange(name, begin, begin + _CHUNK - 1)
        begin += len(messages)
        budget.spend(messages)
        yield from messages


def read_unacknowledged(client: Any, name: str, budget: ReadBudget) -> Iterator[tuple[bytes, bytes]]:
    """Delivery tag and value, `[message, exchange, routing key]`, of each delivered message."""
    cursor = None
    while cursor != 0 and not budget.spent:
        cursor, messages = client.hscan(name, cursor=cursor or 0, count=_CHUNK)
        budget.spend(messages.values())
        yield from messages.items()


def task_headers(raw: bytes) -> Mapping[str, Any] | None:
    """The headers of a message that has the id of its task there (protocol 2, Celery 4 and later)."""
    try:
        message = json.loads(raw)
        headers = (message[0] if isinstance(message, list) else message)["headers"]
    except (ValueError, LookupError, TypeError):
        return None
    return headers if isinstance(headers, dict) and "id" in headers else None
