"""Reads an Order, writes an Account; trouble with the broker is a line in it."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

from reaper.liveness.inspect import InspectReply, InspectRequest

# What is left after this share of the time is for taking leave of the broker.
_TALKING_SHARE = 0.9
_CONNECTING_SHARE = 0.6


def main() -> None:
    order = InspectRequest.loads(sys.stdin.read())
    begun = time.monotonic()
    # Whoever started this may be gone: it ends by itself.
    signal.setitimer(signal.ITIMER_REAL, max(order.until - begun, 0.0) + 1.0)
    sys.stdout.write(_held(order, begun).dumps())
    sys.stdout.flush()
    # Without destructors: kombu's would wait out its last BRPOP, for a second. The sockets close all the same.
    os._exit(0)


def _held(order: InspectRequest, begun: float) -> InspectReply:
    try:
        from kombu import Connection
        from kombu.exceptions import KombuError

        from reaper.liveness.inspect.broker_selection import UnsupportedBroker
        from reaper.liveness.inspect.inspection import interview, revoke
    except ImportError as error:
        return InspectReply(trouble=f"the Celery libraries cannot be imported: {error}")
    until = begun + (order.until - begun) * _TALKING_SHARE
    order = replace(order, until=until)
    errors: tuple[type[BaseException], ...] = (OSError, ImportError, KombuError, UnsupportedBroker)
    try:
        connection = Connection(
            order.broker_url,
            connect_timeout=(until - begun) * _CONNECTING_SHARE,
            heartbeat=0,
            transport_options=dict(order.transport_options),
        )
        errors = (*errors, *connection.connection_errors, *connection.channel_errors)
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=until - begun)
        return revoke(connection, order) if order.revoke else interview(connection, order, begun)
    except errors as error:
        return InspectReply(trouble=_in_words(error))


def _in_words(error: BaseException) -> str:
    """One line. kombu wraps what it met."""
    cause = error.__cause__ or error
    return " ".join(f"{cause or error}".split()) or type(cause).__name__


if __name__ == "__main__":
    main()
