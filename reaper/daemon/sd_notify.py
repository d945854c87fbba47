"""The protocol of sd_notify(3) and sd_watchdog_enabled(3), of which `reaper.daemon.systemd` is the only user."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog

from reaper.errors import ConfigError

_SEND_SECONDS = 1.0

_log = structlog.get_logger("reaper")


class NotifySocket:
    """Sends to the socket of the service manager, if there is one. Thread-safe."""

    def __init__(self, address: str | None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._failed = False

    def send(self, **lines: object) -> None:
        """Send one message. A failure is logged once and does not stop the daemon."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in lines.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(_SEND_SECONDS)
                connection.connect(self._address)
                connection.send(message.encode())
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning(
                    "Reaper cannot reach the service manager; it goes on without it.",
                    error=error.strerror or str(error),
                )
            self._failed = True


def watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """The interval in which systemd expects WATCHDOG; None when it does not expect it of this process.

    Removes both variables from `environ`. Raises ConfigError for a value that is not a number of microseconds.
    """
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds or pid not in ("", str(os.getpid())):
        return None
    if not microseconds.isascii() or not microseconds.isdigit() or int(microseconds) == 0:
        raise ConfigError([f"WATCHDOG_USEC: expected microseconds, got {microseconds!r}"])
    return int(microseconds) / 1e6
