"""One answer for all who ask the same at the same time: what a flood of probes costs does not grow with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

from reaper.web.guard.admission import AdmissionQueue


@dataclass(slots=True)
class _Asked:
    """A question that waits for its turn, and how many wait for the answer."""

    answer: asyncio.Task[list[Message]]
    clients: int = 0


class Coalescer:
    """Questions to one path that differ in nothing that their answers depend on. Lives in one event loop."""

    def __init__(self, lane: AdmissionQueue) -> None:
        self._lane = lane
        self._asked: dict[tuple[bytes, ...], _Asked] = {}

    async def answer(self, app: ASGIApp, scope: Scope) -> list[Message]:
        """What the application sends to whom asks this. Raises what it raises, and Overrun when no turn comes.

        It is asked after the caller has come: nobody is told what was so before.
        """
        what = tuple(value for name, value in scope["headers"] if name == b"accept")
        asked = self._asked.get(what)
        if asked is None:
            task = asyncio.create_task(self._ask(app, scope, what))
            asked = self._asked[what] = _Asked(task)
        asked.clients += 1
        return await asyncio.shield(asked.answer)

    async def _ask(self, app: ASGIApp, scope: Scope, what: tuple[bytes, ...]) -> list[Message]:
        sent = list[Message]()

        async def send(message: Message) -> None:
            sent.append(message)

        try:
            turn = await self._lane.turn(_never)
        finally:
            asked = self._asked.pop(what)
        try:
            await app(scope, _nothing_comes(), send)
        finally:
            turn.end(asked.clients)
        return sent


def _never() -> bool:
    return False


def _nothing_comes() -> Callable[[], asyncio.Future[Message]]:
    """A request without a body, whose client stays."""
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    def receive() -> asyncio.Future[Message]:
        coming: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if body:
            coming.set_result(body.pop())
        return coming

    return receive
