"""What the inspection needs of a broker, and which broker a connection leads to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from kombu import Connection


@dataclass(slots=True)
class QueuedMessages:
    """Messages that the broker keeps."""

    ids: dict[str, str] = field(default_factory=dict)
    """id → task name."""
    unreadable_queues: set[str] = field(default_factory=set)
    """Queues with messages whose ids could not be read."""

    def add(self, other: QueuedMessages) -> None:
        self.ids |= other.ids
        self.unreadable_queues |= other.unreadable_queues


@dataclass(slots=True)
class RemovedMessages:
    """The messages of some tasks that the broker keeps, or kept."""

    removed: dict[str, int] = field(default_factory=dict)
    """Queue → how many were taken out of it; of a dry run, how many would be."""
    tasks: set[str] = field(default_factory=set)
    """Ids of the tasks that these messages start."""
    unacknowledged: set[str] = field(default_factory=set)
    """Ids of the tasks whose message was with a worker, not acknowledged, and was taken out; or would be."""
    left: dict[str, str] = field(default_factory=dict)
    """Queue → why messages of these tasks may still be in it."""


class Broker(Protocol):
    """One kind of broker, on an open connection."""

    listeners: int | None
    """As in `InspectReply`."""
    consumers: dict[str, int] | None
    """As in `InspectReply`."""

    def read_queues(self, queues: Iterable[str], until: float) -> QueuedMessages:
        """The messages that the broker keeps for these queues."""
        ...

    def is_complete(self, workers_by_queue: Mapping[str, int], workers: int) -> bool:
        """Whether no worker is missing when so many replied, in all and of each queue."""
        ...

    def queue_names(self, until: float) -> set[str] | None:
        """All queues of the broker; None where it does not name them."""
        ...

    def remove_messages(
        self, queues: Iterable[str], ids: Collection[str], until: float, *, dry_run: bool
    ) -> RemovedMessages:
        """Take the messages of these tasks out of the queues. Other messages, and their order, stay as they are."""
        ...

    def close(self) -> None:
        """Close the connection as the broker expects it; the process ends right after."""
        ...


class UnsupportedBroker(Exception):
    """The transport has no remote control, or its broker cannot say how many workers should have replied."""


def broker_of(connection: Connection) -> Broker:
    """The broker that the connection leads to. Raises UnsupportedBroker.

    Only the module that is needed is imported: each needs a client library of its own.
    """
    match connection.transport.driver_type:
        case "redis":
            return _import_broker("redis", "Redis", connection)
        case "amqp":
            return _import_broker("rabbitmq", "RabbitMQ", connection)
        case other:
            raise UnsupportedBroker(f"workers cannot be asked over {other}; they can over Redis and RabbitMQ")


def _import_broker(module: str, name: str, connection: Connection) -> Broker:
    broker: Broker = getattr(import_module(f"reaper.liveness.inspect.{module}"), name)(connection)
    return broker
