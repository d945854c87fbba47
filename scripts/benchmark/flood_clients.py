"""Clients who ask again as soon as they are answered, all in one process that takes hardly any time itself.

    python flood_clients.py PORT CLIENTS PATH... < a pipe

Every other one keeps its connection, the others make a new one for each request. They go on until standard input ends;
then what they saw is printed as JSON: the answers by their status, refused and broken connections, and the processor
time used, in seconds. It needs nothing but Python.
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
_REST_SECONDS = 0.05


class Flood:
    """So many clients, and what they saw."""

    def __init__(self, port: int, clients: int, paths: Sequence[str]) -> None:
        self._port, self._seen = port, Counter[str]()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._resting = [
            Client(n % 2 == 0, itertools.cycle([*paths[n % len(paths) :], *paths[: n % len(paths)]]))
            for n in range(clients)
        ]

    def run(self) -> Counter[str]:
        while True:
            resting, self._resting = self._resting, []
            for client in resting:
                self._connect(client)
            for key, _ in self._selector.select(_REST_SECONDS if self._resting else None):
                if key.data is None:
                    return self._seen
                self._read(key.data)

    def _connect(self, client: Client) -> None:
        client.socket = socket.socket()
        try:
            client.socket.connect(("127.0.0.1", self._port))
            client.ask()
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
            if client.keeps:
                client.ask()
        except OSError:
            self._selector.unregister(client.socket)
            self._fail(client)
            return
        self._seen[status] += 1
        if not client.keeps:
            self._selector.unregister(client.socket)
            client.socket.close()
            self._connect(client)

    def _fail(self, client: Client) -> None:
        client.socket.close()
        self._seen["broken"] += 1
        # Who cannot be let in comes back, but not in a loop that would take a core of its own.
        self._resting.append(client)


class Client:
    """One connection, on which one request at a time is under way."""

    socket: socket.socket

    def __init__(self, keeps: bool, paths: itertools.cycle[str]) -> None:
        self.keeps = keeps
        self._paths, self._received = paths, b""

    def ask(self) -> None:
        self._received = b""
        kept = "keep-alive" if self.keeps else "close"
        self.socket.sendall(_REQUEST.format(path=next(self._paths), connection=kept).encode())

    def read(self) -> str | None:
        """The status of an answer that is whole; None when there is more to come. Raises OSError when it is broken."""
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
    seen = Flood(int(port), int(clients), paths).run()
    print(json.dumps({**seen, "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
