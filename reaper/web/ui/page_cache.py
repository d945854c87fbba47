"""Pages that were made a moment ago: however many people look, one of them has to be made in a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from hashlib import blake2b

from reaper.web.limiter import Limiter, TooManyReaders

_FRESH_SECONDS = 1.5
_STALE_SECONDS = 10.0
_OLDEST_SECONDS = 60.0
"""A page may be shown again for so long: at once, instead of waiting for the next one, and instead of none."""

_PATIENCE_SECONDS = 6.0
_WAITING = 5
_MOST = 16
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """An answer, and when it was made by the monotonic clock."""

    status: int
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def etag(self) -> str:
        return f'"{blake2b(self.body, digest_size=12).hexdigest()}"'

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.at


class PageCache:
    """The last answers by what was asked for. Thread-safe; one thread makes an answer, and others wait for it, or take
    the last one when it is not too old, or there is no other to be had.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, RenderedPage] = OrderedDict()
        self._making: dict[Hashable, Limiter] = {}

    def at(self, what: Hashable, make: Callable[[], RenderedPage]) -> RenderedPage:
        """Raises Crowded when it takes too long, and what `make` raises."""
        with self._lock:
            made = self._made.get(what)
            making = self._making.setdefault(what, Limiter(1, _WAITING, _PATIENCE_SECONDS))
        if made is not None and made.age_seconds < _FRESH_SECONDS:
            return made
        if not making.enter(wait=made is None or made.age_seconds > _STALE_SECONDS):
            if made is None or made.age_seconds > _OLDEST_SECONDS:
                raise TooManyReaders
            return made
        try:
            return self._made_by_now(what) or self._keep(what, make())
        finally:
            with self._lock:
                if what not in self._made:  # it could not be made
                    self._making.pop(what, None)
            making.leave()

    def _made_by_now(self, what: Hashable) -> RenderedPage | None:
        """By whom we have waited for."""
        with self._lock:
            made = self._made.get(what)
        return made if made is not None and made.age_seconds < _FRESH_SECONDS else None

    def _keep(self, what: Hashable, made: RenderedPage) -> RenderedPage:
        with self._lock:
            self._made[what] = made
            self._made.move_to_end(what)
            while len(self._made) > _MOST or (len(self._made) > 1 and self._bytes > _MOST_BYTES):
                forgotten, _ = self._made.popitem(last=False)
                self._making.pop(forgotten, None)
        return made

    @property
    def _bytes(self) -> int:
        return sum(len(made.body) for made in self._made.values())
