"""A request's body as it comes in: never more of it than is allowed, and never later."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from reaper.web.guard.access import BODY_BYTES

BODY_SECONDS = 10.0


def bounded(receive: Receive) -> Receive:
    """`receive`, raising HTTPException: 413 once the body has become too long, 408 when it does not come.

    The clock runs from when somebody first asks for the body: nobody waits for one that is not needed.
    """
    loop = asyncio.get_running_loop()
    length, due, whole = 0, 0.0, False

    async def receive_some() -> Message:
        nonlocal length, due, whole
        if whole:
            return await receive()
        due = due or loop.time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(due):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the request's body did not come within {BODY_SECONDS:g} seconds") from None
        length += len(message.get("body", b""))
        if length > BODY_BYTES:
            raise HTTPException(413, f"a request's body must not be longer than {BODY_BYTES} bytes")
        whole = not message.get("more_body", False)
        return message

    return receive_some
