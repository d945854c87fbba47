"""Secrets that stand in files of their own: those that a setting names, and a service manager's credentials."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reaper.common.suggestions import did_you_mean

SECRETS = ("database_url", "broker_url")
"""The settings that may hold a password."""

TOKENS = "http_token"
"""The credential that holds the tokens of the HTTP interface."""


def read_secret(path: Path) -> str:
    """The file's text without the blanks around it. Raises ValueError when there is none to be had."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


@dataclass(frozen=True)
class Credentials:
    """What systemd handed over (`LoadCredential=`).

    `database_url` and `broker_url` are for all sources, `NAME.database_url` and `NAME.broker_url` for one.
    """

    directory: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials:
        given = environ.get("CREDENTIALS_DIRECTORY", "").strip()
        return cls(Path(given) if given else None)

    def path(self, secret: str, source: str | None = None) -> Path | None:
        """The file of the credential, None when there is none.

        A directory that may not be entered is another service's, inherited by accident: it holds none of ours.
        """
        if self.directory is None:
            return None
        path = self.directory / (f"{source}.{secret}" if source else secret)
        return path if os.path.lexists(path) else None

    def unmatched(self, sources: Collection[str]) -> Iterator[str]:
        """A line for each credential of a source that does not exist: its source would use another place."""
        if self.directory is None:
            return
        for secret in SECRETS:
            yield from self._astray(self.directory, secret, {f"{source}.{secret}" for source in sources})

    @staticmethod
    def _astray(directory: Path, secret: str, valid: Collection[str]) -> Iterator[str]:
        for path in sorted(directory.glob(f"*.{secret}")):
            if path.name not in valid:
                hint = did_you_mean(path.name, valid) or "; no sources are configured"
                yield f"credential {path.name}: there is no such source{hint}"
