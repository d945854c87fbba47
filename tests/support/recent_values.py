"""A dictionary that keeps the values that were asked for last."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentValues(dict[K, V]):
    """To be used by `setdefault` alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def setdefault(self, key: K, default: V) -> V:
        """The value of this key, which is now the last to go."""
        value = self[key] = self.pop(key, default)
        if len(self) > self._size:
            del self[next(iter(self))]
        return value
