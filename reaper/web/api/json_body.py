"""Reads the JSON body of a request, and refuses one that two programs could read differently."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

_NAME_LENGTH = 100


class JsonRequest(Request):
    """A request whose `json` raises HTTPException 400 for an object that has a key twice.

    Python takes the last value, other programs the first: a proxy may have allowed another request than is carried out.
    """

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_members)
        return self._json


class JsonBodyRoute(APIRoute):
    """A route whose requests are JsonRequests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            # A request that has been read already keeps its body.
            return await handle(
                request if isinstance(request, JsonRequest) else JsonRequest(request.scope, request.receive)
            )

        return handle_json


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict[str, Any]()
    for name, value in pairs:
        if name in members:
            raise HTTPException(400, f"body: the key {name[:_NAME_LENGTH]!r} is there twice")
        members[name] = value
    return members
