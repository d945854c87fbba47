"""A service manager for tests: a datagram socket that keeps the messages of sd_notify(3)."""

from __future__ import annotations

import socket

from tests.support.waiting import wait_until


class Manager:
    """Takes the place of systemd: a datagram socket that keeps every message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._messages: list[dict[str, str]] = []

    def close(self) -> None:
        self._socket.close()

    @property
    def messages(self) -> list[dict[str, str]]:
        """All so far, in order: each as its lines."""
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self._messages
            self._messages.append(dict(line.split("=", 1) for line in text.split("\n")))

    def received(self, name: str) -> list[str]:
        return [message[name] for message in self.messages if name in message]

    def hears(self, name: str, more: int = 1, seconds: float = 15) -> str:
        """Wait for so many more of these; the newest."""
        goal = len(self.received(name)) + more
        wait_until(lambda: len(self.received(name)) >= goal, f"{name} from the daemon", seconds)
        return self.received(name)[-1]

    def says(self, status: str, seconds: float = 15) -> None:
        """Wait until the newest STATUS holds these words."""
        wait_until(
            lambda: any(status in received for received in self.received("STATUS")[-1:]),
            f"STATUS with {status!r}",
            seconds,
        )
