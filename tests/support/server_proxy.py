"""A TCP port that leads to a server's Unix socket, and looks at what the server answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class ServerProxy:
    """Takes connections until it is closed. `on_answer` gets each piece of an answer before it is passed on."""

    def __init__(self, socket_path: str, on_answer: Callable[[bytes], object]) -> None:
        self._path, self._on_answer = socket_path, on_answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._open += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        is_server = source.family is socket.AF_UNIX
        with suppress(OSError):  # either end hung up
            while piece := source.recv(65536):
                if is_server:
                    self._on_answer(piece)
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
