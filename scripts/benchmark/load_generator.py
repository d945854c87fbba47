"""HTTP load generator: many clients in one process, with little CPU time of its own.

    python load_generator.py PORT CLIENTS PATH... < a pipe

Each client sends its next request as soon as it has the response. Half of the clients keep their connection alive, the
others open a new one for each request. The process ends when standard input ends. It then prints a JSON object: the
number of responses by status, of failed connections (`broken`), and its own CPU time (`cpu_seconds`). Standard library
only.
"""

from __future__ import annotations

import itertools
import json
import re
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_REQUEST = "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n"
_RETRY_SECONDS = 0.05


class Flood:
    """A number of clients, and the count of their responses by status."""

    def __init__(self, port: int, clients: int, paths: Sequence[str]) -> None:
        self._port, self._responses = port, Counter[str]()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._failed = [
            Client(n % 2 == 0, itertools.cycle([*paths[n % len(paths) :], *paths[: n % len(paths)]]))
            for n in range(clients)
        ]

    def run(self) -> Counter[str]:
        while True:
            failed, self._failed = self._failed, []
            for client in failed:
                self._connect(client)
            for key, _ in self._selector.select(_RETRY_SECONDS if self._failed else None):
                if key.data is None:
                    return self._responses
                self._read(key.data)

    def _connect(self, client: Client) -> None:
        client.socket = socket.socket()
        try:
            client.socket.connect(("127.0.0.1", self._port))
            client.send()
        except OSError:
            self._fail(client)
        else:
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def _read(self, client: Client) -> None:
        try:
            status = client.read()
            if status is None:
                return
            if client.keep_alive:
                client.send()
        except OSError:
            self._selector.unregister(client.socket)
            self._fail(client)
            return
        self._responses[status] += 1
        if not client.keep_alive:
            self._selector.unregister(client.socket)
            client.socket.close()
            self._connect(client)

    def _fail(self, client: Client) -> None:
        client.socket.close()
        self._responses["broken"] += 1
        # A refused client retries after a pause: retrying in a busy loop would use a whole core.
        self._failed.append(client)


class Client:
    """One client connection, with one request at a time."""

    socket: socket.socket

    def __init__(self, keep_alive: bool, paths: itertools.cycle[str]) -> None:
        self.keep_alive = keep_alive
        self._paths, self._received = paths, b""

    def send(self) -> None:
        self._received = b""
        connection = "keep-alive" if self.keep_alive else "close"
        self.socket.sendall(_REQUEST.format(path=next(self._paths), connection=connection).encode())

    def read(self) -> str | None:
        """The status of a complete response; None while it is incomplete. Raises OSError when the connection fails."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionResetError
        self._received += part
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not separator or (length and len(body) < int(length[1])):
            return None
        return head[9:12].decode()


def main() -> None:
    port, clients, *paths = sys.argv[1:]
    responses = Flood(int(port), int(clients), paths).run()
    print(json.dumps({**responses, "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
