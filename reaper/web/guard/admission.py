"""The admission limit: how much of the process's time answers may take, whatever is asked and however often.

HTTP shares the interpreter and the database with the sweeps, which come first. A request waits for its turn. That costs
next to nothing: a client that waits does not ask again, and one that is refused asks again at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.types import Message

_PATIENCE_SECONDS = 10.0
_LONGEST_CHARGED_SECONDS = 0.3
"""What took longer waited for a database or for other requests, and used no processor time meanwhile."""
_CLIENT_SECONDS = 0.0005
"""What it takes to read one more client's request and to send it an answer that is there already."""
_SAME_QUESTION_SECONDS = 2.0
"""How long a question waits for the answer to an equal one that is worked on: while it waits, more clients join it."""

Work = Callable[[], Awaitable[list[Message]]]
"""Makes one answer: the messages of ASGI that it consists of."""


class AdmissionTimeout(Exception):
    """The request has waited too long for its turn."""


class ClientDisconnected(Exception):
    """The client has gone while its request waited."""


@dataclass(slots=True)
class _Question:
    """Clients that ask the same and wait for one answer."""

    answer: asyncio.Task[list[Message]]
    clients: int = 0


@dataclass(slots=True)
class _Group:
    """The slots of one group, and how many requests have or await one of them."""

    slots: asyncio.Semaphore
    users: int = 0


class GroupLimit:
    """So many of each group at the same time. Lives in one event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._groups: dict[Hashable, _Group] = {}

    @asynccontextmanager
    async def slot(self, name: Hashable) -> AsyncIterator[None]:
        """One of the group's slots is taken in this block."""
        group = self._groups.setdefault(name, _Group(asyncio.Semaphore(self._at_once)))
        group.users += 1
        try:
            async with group.slots:
                yield
        finally:
            group.users -= 1
            if not group.users:  # names may come from clients: nothing is kept for them
                del self._groups[name]


class AdmissionLimit:
    """The limit for one class of requests, which are admitted in the order of their coming. Lives in one event loop.

    They may take `share` of the time that passes, and `burst_seconds` at once after a quiet time. Each costs the time
    that it is worked on, and `request_seconds` for what is done before and after that. At most `at_once` are worked on
    at the same time, and `at_once_of_group` of one group: the slow ones of a group leave room for the others.
    """

    def __init__(
        self,
        share: float,
        request_seconds: float,
        at_once: int,
        burst_seconds: float = 1.0,
        at_once_of_group: int | None = None,
    ) -> None:
        self._share, self._request_seconds, self._burst_seconds = share, request_seconds, burst_seconds
        self._slots, self._first = asyncio.Semaphore(at_once), asyncio.Lock()
        self._groups = GroupLimit(at_once_of_group or at_once)
        self._paid_until = 0.0  # by the monotonic clock: when what was worked so far has been no more than the share
        self._waiting: dict[Hashable, _Question] = {}
        self._working: dict[Hashable, asyncio.Task[list[Message]]] = {}

    async def run(
        self, work: Work, client_gone: Callable[[], bool] = lambda: False, group: Hashable = None
    ) -> list[Message]:
        """Wait for a turn, then work. Raises AdmissionTimeout, and ClientDisconnected for a client that has gone."""
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await turn.enter_async_context(self._groups.slot(group))
                    await turn.enter_async_context(self._slots)
                    await self._wait_for_share()
            except TimeoutError:
                raise AdmissionTimeout from None
            began = time.monotonic()
            try:
                if client_gone():
                    raise ClientDisconnected
                return await work()
            finally:
                self.charge(min(time.monotonic() - began, _LONGEST_CHARGED_SECONDS) + self._request_seconds)

    async def run_shared(self, question: Hashable, work: Work, group: Hashable = None) -> list[Message]:
        """The same, once for all clients whose equal questions wait for the same turn. Raises AdmissionTimeout.

        The answer is made after each of them has asked, so it is never older than a question.
        """
        waiting = self._waiting.get(question)
        if waiting is None:
            waiting = self._waiting[question] = _Question(asyncio.create_task(self._answer(question, work, group)))
        waiting.clients += 1
        # A client that goes does not take the answer from the others.
        return await asyncio.shield(waiting.answer)

    def charge(self, seconds: float) -> None:
        """What was worked is paid by a wait. A debt is never longer than half a burst: the rest is forgotten."""
        now = time.monotonic()
        paid_until = max(self._paid_until, now - self._burst_seconds / self._share) + seconds / self._share
        self._paid_until = min(paid_until, now + self._burst_seconds / 2 / self._share)

    @property
    def wait_seconds(self) -> float:
        """How long until the next turn; 0 when it may be now."""
        return max(0.0, self._paid_until - time.monotonic())

    async def _wait_for_share(self) -> None:
        async with self._first:
            while wait := self.wait_seconds:
                await asyncio.sleep(wait)

    async def _answer(self, question: Hashable, work: Work, group: Hashable) -> list[Message]:
        async def work_for_all() -> list[Message]:
            clients = self._waiting.pop(question)
            self._working[question] = clients.answer
            self.charge((clients.clients - 1) * _CLIENT_SECONDS)
            return await work()

        try:
            if (before := self._working.get(question)) is not None:
                await asyncio.wait([before], timeout=_SAME_QUESTION_SECONDS)
            return await self.run(work_for_all, group=group)
        finally:
            this = asyncio.current_task()
            if question in self._waiting and self._waiting[question].answer is this:
                del self._waiting[question]
            if self._working.get(question) is this:
                del self._working[question]
