"""Who may change something: those who bear one of the configured tokens."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from pydantic import SecretStr

from reaper.config import Settings
from reaper.errors import ConfigError

HOW_TO_SET = (
    "REAPER_HTTP_TOKEN_FILE, http_token_file in the file, or the systemd credential http_token names one; "
    "scripts/manage.sh start makes one"
)


class Tokens:
    """The tokens in force, by their names. They may be replaced at any time, from any thread."""

    def __init__(self, tokens: Mapping[str, SecretStr] | None = None) -> None:
        self.replace(tokens or {})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def replace(self, tokens: Mapping[str, SecretStr]) -> None:
        """From now on these, and no others."""
        self._digests = {name: _digest(token.get_secret_value().encode()) for name, token in tokens.items()}

    def who(self, authorization: str | None) -> str | None:
        """The name of the token in an Authorization header (as the server decoded it, Latin-1); None for any other.

        How long it takes tells nothing: digests are of one length, and all of them are compared.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer":
            return None
        digest, found = _digest(given.strip(" ").encode("latin-1")), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def refuse_exposed(settings: Settings) -> None:
    """Raises ConfigError when the port could be reached from another machine and no token keeps it."""
    if settings.http_exposed and not settings.http_tokens:
        origin = settings.origins.get("http_host", "default")
        raise ConfigError(
            [
                f"{origin}: http_host {settings.http_host} can be reached from other machines, "
                f"and there is no token for HTTP: {HOW_TO_SET}"
            ]
        )


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


@dataclass(frozen=True, slots=True)
class Caller:
    """The name of the token, and where the request came from (`address:port`)."""

    name: str
    remote: str

    def __str__(self) -> str:
        return f"{self.name} over HTTP from {self.remote}"
