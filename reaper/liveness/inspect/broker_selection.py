"""Which broker it is."""

from __future__ import annotations

from importlib import import_module

from kombu import Connection

from reaper.liveness.inspect.broker import Broker


class UnsupportedBroker(Exception):
    """The transport carries no remote control, or its broker cannot say who should have answered."""


def broker_of(connection: Connection) -> Broker:
    """Raises Unsupported. Only the one that is needed is imported: each has a client library of its own."""
    match connection.transport.driver_type:
        case "redis":
            return _made("redis", "Redis", connection)
        case "amqp":
            return _made("rabbitmq", "RabbitMQ", connection)
        case other:
            raise UnsupportedBroker(f"workers cannot be asked over {other}; they can over Redis and RabbitMQ")


def _made(module: str, name: str, connection: Connection) -> Broker:
    broker: Broker = getattr(import_module(f"reaper.liveness.inspect.{module}"), name)(connection)
    return broker
