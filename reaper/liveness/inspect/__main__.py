"""The inspecting process: reads an InspectRequest, writes an InspectReply. Trouble with the broker is in the reply."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

from reaper.liveness.inspect import InspectReply, InspectRequest

# The rest of the time is for closing the connection.
_INSPECTING_SHARE = 0.9
_CONNECTING_SHARE = 0.6
_MAX_CONNECTING_SECONDS = 10.0


def main() -> None:
    request = InspectRequest.loads(sys.stdin.read())
    started = time.monotonic()
    # Ends this process even when the one that started it is gone.
    signal.setitimer(signal.ITIMER_REAL, max(request.until - started, 0.0) + 1.0)
    sys.stdout.write(_reply_to(request, started).dumps())
    sys.stdout.flush()
    # Without destructors, since kombu's would wait a second for its last BRPOP. The system closes the sockets.
    os._exit(0)


def _reply_to(request: InspectRequest, started: float) -> InspectReply:
    try:
        from kombu import Connection
        from kombu.exceptions import KombuError

        from reaper.liveness.inspect.broker import UnsupportedBroker
        from reaper.liveness.inspect.inspection import inspect_workers, revoke_tasks
        from reaper.liveness.inspect.removal import remove_tasks
    except ImportError as error:
        return InspectReply(trouble=f"the Celery libraries cannot be imported: {error}")
    until = started + (request.until - started) * _INSPECTING_SHARE
    request = replace(request, until=until)
    errors: tuple[type[BaseException], ...] = (OSError, ImportError, KombuError, UnsupportedBroker)
    try:
        connection = Connection(
            request.broker_url,
            connect_timeout=min((until - started) * _CONNECTING_SHARE, _MAX_CONNECTING_SECONDS),
            heartbeat=0,
            transport_options=dict(request.transport_options),
        )
        errors = (*errors, *connection.connection_errors, *connection.channel_errors)
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=until - started)
        if request.remove:
            return remove_tasks(connection, request)
        return revoke_tasks(connection, request) if request.revoke else inspect_workers(connection, request, started)
    except errors as error:
        return InspectReply(trouble=_one_line(error))


def _one_line(error: BaseException) -> str:
    """The message of the error, or of its cause, which kombu wraps."""
    cause = error.__cause__ or error
    return " ".join(f"{cause or error}".split()) or type(cause).__name__


if __name__ == "__main__":
    main()
