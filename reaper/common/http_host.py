"""The host at which a listening daemon is reached. Without other imports: scripts ask whether one answers."""

from __future__ import annotations

_LISTENING_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def reachable_host(http_host: str) -> str:
    """The host at which a daemon on this machine is reached, for the `http_host` on which it listens."""
    return _LISTENING_EVERYWHERE.get(http_host, http_host)
