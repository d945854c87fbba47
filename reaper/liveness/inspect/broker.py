"""Messages that a broker keeps, and what a broker must be able to tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class QueuedMessages:
    """Messages that the broker keeps."""

    ids: dict[str, str] = field(default_factory=dict)
    """id → task name."""
    unread: set[str] = field(default_factory=set)
    """Queues with messages that could not be told apart."""

    def add(self, other: QueuedMessages) -> None:
        self.ids |= other.ids
        self.unread |= other.unread


class Broker(Protocol):
    """One kind of broker, on an open connection."""

    listeners: int | None
    """As in `Account`."""
    consumers: dict[str, int] | None
    """As in `Account`."""

    def look(self, queues: Iterable[str], until: float) -> QueuedMessages:
        """The messages that are kept for these queues."""
        ...

    def all_heard(self, answered: Mapping[str, int], workers: int) -> bool:
        """Whether nobody is missing when so many workers answered, `answered` of them of each queue."""
        ...

    def leave(self) -> None:
        """Take leave of the broker; the process ends right after."""
        ...
