"""The page's static files. Clients keep them, and ask whether they have changed."""

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
class StaticFile:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def static_file(name: str) -> StaticFile | None:
    """None when there is no such file."""
    return _static_files().get(name)


@cache
def _static_files() -> dict[str, StaticFile]:
    by_name = {}
    for file in files("reaper.web.ui").joinpath("static").iterdir():
        if (media_type := _TYPES.get(file.name.rpartition(".")[2])) is not None:
            body = file.read_bytes()
            by_name[file.name] = StaticFile(body, media_type, f'"{blake2b(body, digest_size=12).hexdigest()}"')
    return by_name
