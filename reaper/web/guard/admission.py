"""The admission limit: how much of the process's time answers may take, whatever is asked and however often.

HTTP shares the interpreter and the database with the sweeps, which come first. A request waits for its turn. That costs
next to nothing: a client that waits does not ask again, and one that is refused asks again at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from starlette.types import Message

_PATIENCE_SECONDS = 10.0
_LONGEST_CHARGED_SECONDS = 0.3
"""What took longer waited for a database or for other requests, and used no processor time meanwhile."""
_CLIENT_SECONDS = 0.0005
"""What it takes to read one more client's request and to send it an answer that is there already."""

_SAME_QUESTION_SECONDS = 2.0
"""How long a question waits for the answer to an equal one that is worked on: while it waits, more clients join it."""


class AdmissionTimeout(Exception):
    """The request has waited too long for its turn."""


class ClientDisconnected(Exception):
    """The client has gone while its request waited."""


class TokenBucket:
    """A budget of seconds that is filled at `rate` seconds a second, up to `capacity` seconds.

    It may be overdrawn, by half of its capacity at most.
    """

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate, self._capacity, self._level, self._at = rate, capacity, capacity, time.monotonic()

    def spend(self, seconds: float) -> None:
        self._level = max(self._filled() - seconds, -self._capacity / 2)

    @property
    def wait_seconds(self) -> float:
        """How long until something may be spent again; 0 when it may be now."""
        return max(0.0, -self._filled() / self._rate)

    def _filled(self) -> float:
        now = time.monotonic()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level


class Turn:
    """The time in which one request is worked on. It must be ended."""

    def __init__(self, end: Callable[[float], None]) -> None:
        self._began = time.monotonic()
        self._end: Callable[[float], None] | None = end

    def end(self) -> None:
        """Ending it again does nothing."""
        if (end := self._end) is not None:
            self._end = None
            end(time.monotonic() - self._began)


@dataclass(slots=True)
class _Question:
    """Clients that ask the same and wait for one answer."""

    answer: asyncio.Task[list[Message]]
    clients: int = 0


class AdmissionLimit:
    """The limit for one class of requests, which are admitted in the order of their coming. Lives in one event loop.

    They may take `share` of the time that passes, and `burst_seconds` at once after a quiet time. Each costs the time
    that it is worked on, and `request_seconds` for what is done before and after that. At most `at_once` are worked on
    at the same time.
    """

    def __init__(self, share: float, request_seconds: float, at_once: int, burst_seconds: float = 1.0) -> None:
        self._budget, self._request_seconds = TokenBucket(share, burst_seconds), request_seconds
        self._slots, self._next = asyncio.Semaphore(at_once), asyncio.Lock()
        self._waiting: dict[Hashable, _Question] = {}
        self._working: dict[Hashable, asyncio.Task[list[Message]]] = {}

    async def turn(self, client_gone: Callable[[], bool]) -> Turn:
        """Wait for a turn. Raises AdmissionTimeout, and ClientDisconnected when the client is gone by then."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._admit()
        except TimeoutError:
            raise AdmissionTimeout from None
        if client_gone():
            self._slots.release()
            raise ClientDisconnected
        return Turn(self._charge)

    async def shared(self, question: Hashable, answer: Callable[[], Awaitable[list[Message]]]) -> list[Message]:
        """One answer for all clients whose equal questions wait for the same turn. Raises AdmissionTimeout.

        It is made after each of them has asked, so it is never older than a question.
        """
        waiting = self._waiting.get(question)
        if waiting is None:
            waiting = self._waiting[question] = _Question(asyncio.create_task(self._answer(question, answer)))
        waiting.clients += 1
        # A client that goes does not take the answer from the others.
        return await asyncio.shield(waiting.answer)

    async def _answer(self, question: Hashable, answer: Callable[[], Awaitable[list[Message]]]) -> list[Message]:
        try:
            if (before := self._working.get(question)) is not None:
                await asyncio.wait([before], timeout=_SAME_QUESTION_SECONDS)
            turn = await self.turn(lambda: False)
        finally:
            waiting = self._waiting.pop(question)
        self._working[question] = waiting.answer
        self._budget.spend((waiting.clients - 1) * _CLIENT_SECONDS)
        try:
            return await answer()
        finally:
            turn.end()
            if self._working.get(question) is waiting.answer:
                del self._working[question]

    async def _admit(self) -> None:
        await self._slots.acquire()
        try:
            async with self._next:
                while wait := self._budget.wait_seconds:
                    await asyncio.sleep(wait)
        except BaseException:
            self._slots.release()
            raise

    def _charge(self, seconds: float) -> None:
        self._slots.release()
        self._budget.spend(min(seconds, _LONGEST_CHARGED_SECONDS) + self._request_seconds)
