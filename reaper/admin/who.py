"""Who asks for a change over HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Who:
    """The name of the token, and where the request came from (`address:port`)."""

    name: str
    remote: str

    def __str__(self) -> str:
        return f"{self.name} over HTTP from {self.remote}"
