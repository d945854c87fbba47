"""The files that the page is made with. Clients keep them, and ask whether they have changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    etag: str


def asset(name: str) -> Asset | None:
    """None when there is no such file."""
    return _assets().get(name)


@cache
def _assets() -> dict[str, Asset]:
    found = {}
    for file in files("reaper.web.ui").joinpath("static").iterdir():
        if (media_type := _TYPES.get(file.name.rpartition(".")[2])) is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, media_type, f'"{blake2b(body, digest_size=12).hexdigest()}"')
    return found
