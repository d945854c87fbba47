"""A connection to MariaDB with a time limit for each answer. The only module that needs the driver.

The server's own time limits do not help when the server itself stands still.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pymysql import MySQLError, OperationalError
from pymysql.connections import Connection
from pymysql.constants import CR

if TYPE_CHECKING:  # it is generic in its stubs alone
    _Connection = Connection[Any]
else:
    _Connection = Connection


class TimedConnection(_Connection):
    """Fails when the server sends nothing for longer than its time limit."""

    def connect(self, sock: Any = None) -> None:
        """As the driver, which leaves a Unix socket open when connecting fails."""
        if sock is None and self.unix_socket:
            sock = _connected_socket(str(self.unix_socket), self.connect_timeout)
            self._secure = True  # a local socket cannot be listened in on
        super().connect(sock)

    def _create_ssl_ctx(self, options: ssl.SSLContext | Mapping[str, Any]) -> ssl.SSLContext:
        """As the driver. Without options it checks no certificate, and then none has to be read.

        The driver reads all that the system trusts for each connection: 25 ms, and most of the time that connecting
        takes.
        """
        return super()._create_ssl_ctx(options) if options else _unverified_context()  # type: ignore[misc]

    @property
    def greeting(self) -> str:
        """The version text that the server sends first."""
        return str(self.get_server_info())  # type: ignore[no-untyped-call]

    def set_timeout(self, seconds: float) -> None:
        """Limit each answer from now on. The driver takes a limit when it connects, and reads it before each answer."""
        self._read_timeout: float | None = seconds
        self._write_timeout: float | None = seconds

    def responds(self, within_seconds: float) -> bool:
        """Whether the server answers in time."""
        limit = self._read_timeout
        self.set_timeout(within_seconds)
        try:
            self.ping(reconnect=False)
        except MySQLError:
            return False
        finally:
            self.set_timeout(limit or within_seconds)
        return True


@cache
def _unverified_context() -> ssl.SSLContext:
    """TLS that checks no certificate, shared by all connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connected_socket(path: str, timeout_seconds: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_seconds)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise OperationalError(CR.CR_CONN_HOST_ERROR, f"Can't connect to the server at {path} ({error})") from error
    return sock


def connect(options: Mapping[str, Any], connect_seconds: float, limit_seconds: float) -> TimedConnection:
    """A connection that was made, greeting included, within `connect_seconds`; then each answer has `limit_seconds`.

    Raises MySQLError.
    """
    connection = TimedConnection(
        **options,
        connect_timeout=max(1, round(connect_seconds)),
        read_timeout=connect_seconds,
        write_timeout=connect_seconds,
    )
    connection.set_timeout(limit_seconds)
    return connection
