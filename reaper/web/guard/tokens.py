"""The bearer tokens with which something may be changed over HTTP."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pydantic import SecretStr

from reaper.config import Settings
from reaper.config.token_file import TokenFile
from reaper.errors import ConfigError

HOW_TO_SET = (
    "REAPER_HTTP_TOKEN_FILE, http_token_file in the file, or the systemd credential http_token names one; "
    "scripts/manage.sh start makes one"
)

WHERE_FROM = (
    "send `Authorization: Bearer TOKEN` with a token of the file that REAPER_HTTP_TOKEN_FILE or http_token_file names; "
    "scripts/manage.sh start makes .data/http-token, scripts/install.sh makes /etc/reaper/http_token"
)

_NONE_CONFIGURED = f"it has no token for HTTP ({HOW_TO_SET})"


class Tokens:
    """The tokens in force, by name. They may be replaced at any time, from any thread.

    `absence` says why there is none where there is none.
    """

    def __init__(self, tokens: Mapping[str, SecretStr] | None = None) -> None:
        self.replace(tokens or {})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def replace(self, tokens: Mapping[str, SecretStr]) -> None:
        """Put these tokens into force, and no others."""
        self._digests, self.absence = _digests(tokens), _NONE_CONFIGURED

    def revoke_missing(self, file: TokenFile) -> Sequence[str]:
        """Revoke the tokens that the file no longer contains, and return their names. New ones are not put into force.

        A token whose name is that of another one now is revoked, too.
        """
        if file.read_once:
            return ()
        present, before = _digests(file.tokens), self._digests
        kept = {name: digest for name, digest in before.items() if present.get(name) == digest}
        if revoked := sorted(before.keys() - kept.keys()):
            why = "; ".join(file.problems) or "they are no longer in their file"
            # First: a request that finds no token reads the reason.
            self.absence = f"its tokens for HTTP were revoked: {why}"
            self._digests = kept
        return revoked

    def name_of(self, authorization: str | None) -> str | None:
        """The name of the token in an Authorization header (as the server decoded it, Latin-1); None for any other.

        The time that it takes gives nothing away: digests have one length, and all of them are compared.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer":
            return None
        digest, matching = _digest(given.strip(" ").encode("latin-1")), None
        for name, expected in self._digests.items():
            if hmac.compare_digest(digest, expected):
                matching = name
        return matching


def refuse_exposed(settings: Settings) -> None:
    """Raises ConfigError when other machines can reach the port and no token is configured."""
    if settings.http_exposed and not settings.http_tokens:
        origin = settings.origins.get("http_host", "default")
        raise ConfigError(
            [
                f"{origin}: http_host {settings.http_host} can be reached from other machines, "
                f"and there is no token for HTTP: {HOW_TO_SET}"
            ]
        )


def _digests(tokens: Mapping[str, SecretStr]) -> Mapping[str, bytes]:
    return {name: _digest(token.get_secret_value().encode()) for name, token in tokens.items()}


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that a token identifies: the token's name, and the `address:port` that the request came from."""

    name: str
    remote: str

    def __str__(self) -> str:
        return f"{self.name} over HTTP from {self.remote}"
