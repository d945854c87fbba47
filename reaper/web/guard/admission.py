"""How many answers there are at most: the sweeps come first, whoever asks, and however often.

HTTP shares the interpreter and the database with the sweeps. Those who ask faster than it may answer wait their turn,
which costs next to nothing: a client that waits does not ask again, and one that is refused does, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PATIENCE_SECONDS = 10.0
_PLACES = 500
_MOST_SECONDS = 0.3
"""What took longer has waited for a database or for others: that takes nothing from those who come next."""


class AdmissionTimeout(Exception):
    """Too many are waiting, or one has waited too long."""


class ClientDisconnected(Exception):
    """The client has gone while it waited."""


class TokenBucket:
    """Something that may be used up at `rate` units a second; what was not used is saved up to `most` units.

    It may be overdrawn, but never by more than half of that.
    """

    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most, self._level, self._at = rate, most, most, time.monotonic()

    def spend(self, units: float) -> None:
        self._level = max(self._now() - units, -self._most / 2)

    @property
    def wait_seconds(self) -> float:
        """How long until there is something to spend; 0 when there is."""
        return max(0.0, -self._now() / self._rate)

    def _now(self) -> float:
        now = time.monotonic()
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level


class Slot:
    """The time in which one request is worked on."""

    def __init__(self, ended: Callable[[float, int], None]) -> None:
        self._begun = time.monotonic()
        self._ended: Callable[[float, int], None] | None = ended

    def end(self, clients: int = 1) -> None:
        """For so many clients it was. Once is enough, and twice does no harm."""
        if (ended := self._ended) is not None:
            self._ended = None
            ended(time.monotonic() - self._begun, clients)


class AdmissionQueue:
    """Requests of one sort, one after the other. Lives in one event loop.

    They may take `share` of the time that goes by, and `most_seconds` at once after a quiet time.
    Each costs as long as it is worked on, up to _MOST_SECONDS, and `each_seconds` a client for what is done before and
    after that.
    """

    def __init__(self, share: float, each_seconds: float, at_once: int, most_seconds: float = 1.0) -> None:
        self._budget, self._each, self._free = TokenBucket(share, most_seconds), each_seconds, at_once
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, gone: Callable[[], bool]) -> Slot:
        """Wait for a turn, which the caller has to end.

        Raises Overrun when it does not come, and Left when the client is `gone` by then.
        """
        if self._waiting or not self._free or self._budget.wait_seconds:
            await self._queue(gone)
        else:
            self._free -= 1
        return Slot(self._end)

    async def _queue(self, gone: Callable[[], bool]) -> None:
        if len(self._waiting) >= _PLACES:
            raise AdmissionTimeout
        called = asyncio.get_running_loop().create_future()
        self._waiting.append((called, gone))
        self._call()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await called
        except BaseException as error:
            if called.done() and not called.cancelled() and called.exception() is None:
                self._end(0, 0)  # called and cut short at the same moment
            if isinstance(error, TimeoutError):
                raise AdmissionTimeout from None
            raise

    def _end(self, seconds: float, clients: int) -> None:
        self._free += 1
        self._budget.spend(min(seconds, _MOST_SECONDS) + clients * self._each)
        self._call()

    def _call(self) -> None:
        """Call those whose turn it is."""
        while self._waiting and self._free:
            called, gone = self._waiting[0]
            if not called.done() and not gone():
                if wait := self._budget.wait_seconds:
                    self._call_in(wait)
                    return
                self._free -= 1
                called.set_result(None)
            elif not called.done():
                called.set_exception(ClientDisconnected())
            self._waiting.popleft()

    def _call_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._call()
