"""Secrets in files: those that settings name, and systemd's credentials."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reaper.common.bounded_file import UnreadableFile, read_bounded
from reaper.common.suggestions import did_you_mean

URL_SETTINGS = ("database_url", "broker_url")
"""The settings that may contain a password. Each can be given as a file instead: `NAME_file`."""

TOKEN_CREDENTIAL = "http_token"  # noqa: S105
"""The credential with the tokens of the HTTP interface."""


def read_secret(path: Path) -> str:
    """The file's text without the blanks around it. Raises ValueError for a file that is empty or cannot be read."""
    try:
        secret = read_bounded(path).content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except UnreadableFile as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


@dataclass(frozen=True)
class Credentials:
    """The files that systemd provides to the service (`LoadCredential=`), in `$CREDENTIALS_DIRECTORY`.

    `database_url` and `broker_url` serve all sources, `NAME.database_url` and `NAME.broker_url` one source.
    """

    directory: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials:
        directory = environ.get("CREDENTIALS_DIRECTORY", "").strip()
        return cls(Path(directory) if directory else None)

    def path(self, name: str, source: str | None = None) -> Path | None:
        """The file of a credential, None when there is none.

        A directory that may not be entered belongs to another service, whose environment was inherited: it has no
        credentials of the reaper.
        """
        if self.directory is None:
            return None
        path = self.directory / (f"{source}.{name}" if source else name)
        return path if os.path.lexists(path) else None

    def problems(self, sources: Collection[str]) -> Iterator[str]:
        """A line for each credential whose source does not exist: the source that was meant would use another URL."""
        if self.directory is None:
            return
        for setting in URL_SETTINGS:
            valid = {f"{source}.{setting}" for source in sources}
            for path in sorted(self.directory.glob(f"*.{setting}")):
                if path.name not in valid:
                    hint = did_you_mean(path.name, valid) or "; no sources are configured"
                    yield f"credential {path.name}: there is no such source{hint}"
