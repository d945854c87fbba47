"""A connection to MariaDB that does not wait for ever. The only module that needs the driver.

The server's own time limits are of no use when it is the server that stands still.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pymysql import MySQLError, OperationalError
from pymysql.connections import Connection
from pymysql.constants import CR

if TYPE_CHECKING:  # it is generic in its stubs alone
    _Connection = Connection[Any]
else:
    _Connection = Connection


class TimedConnection(_Connection):
    """Hangs up when the server says nothing for longer than a limit."""

    def connect(self, sock: Any = None) -> None:
        """As the driver does, which leaves the socket open when nobody listens at its other end."""
        if sock is None and self.unix_socket:
            sock = _at(str(self.unix_socket), self.connect_timeout)
            self._secure = True  # nobody listens in
        super().connect(sock)

    @property
    def greeting(self) -> str:
        """How the server calls itself when it is met."""
        return str(self.get_server_info())  # type: ignore[no-untyped-call]

    def set_timeout(self, seconds: float) -> None:
        """From now on. The driver reads its limit, which it takes only when it connects, before each answer."""
        self._read_timeout: float | None = seconds
        self._write_timeout: float | None = seconds

    def responds(self, within_seconds: float) -> bool:
        """Whether the server is still there. One that keeps us waiting is hung up on."""
        limit = self._read_timeout
        self.set_timeout(within_seconds)
        try:
            self.ping(reconnect=False)
        except MySQLError:
            return False
        finally:
            self.set_timeout(limit or within_seconds)
        return True


def _at(path: str, seconds: float | None) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(seconds)
    try:
        line.connect(path)
    except OSError as error:
        line.close()
        raise OperationalError(CR.CR_CONN_HOST_ERROR, f"Can't connect to the server at {path} ({error})") from error
    return line


def connect(options: Mapping[str, Any], connect_seconds: float, limit_seconds: float) -> TimedConnection:
    """A connection that was made, with its greeting, in `connect_seconds`. Raises MySQLError."""
    line = TimedConnection(
        **options,
        connect_timeout=max(1, round(connect_seconds)),
        read_timeout=connect_seconds,
        write_timeout=connect_seconds,
    )
    line.set_timeout(limit_seconds)
    return line
