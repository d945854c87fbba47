"""Secrets that stand in files of their own: those that a setting names, and a service manager's credentials."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reaper.nearest import did_you_mean

_NAME = "database_url"


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
    """What systemd handed over (`LoadCredential=`): `database_url` for all, `NAME.database_url` for one source."""

    directory: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials:
        given = environ.get("CREDENTIALS_DIRECTORY", "").strip()
        return cls(Path(given) if given else None)

    def path(self, source: str | None = None) -> Path | None:
        """The file of the credential, None when there is none.

        A directory that may not be entered is another service's, inherited by accident: it holds none of ours.
        """
        if self.directory is None:
            return None
        path = self.directory / (f"{source}.{_NAME}" if source else _NAME)
        return path if os.path.lexists(path) else None

    def astray(self, sources: Iterable[str]) -> Iterator[str]:
        """A line for each credential of a source that does not exist: its source would use another database."""
        valid = {f"{source}.{_NAME}" for source in sources}
        for path in sorted(self.directory.glob(f"*.{_NAME}")) if self.directory else ():
            if path.name not in valid:
                hint = did_you_mean(path.name, valid) or "; no sources are configured"
                yield f"credential {path.name}: there is no such source{hint}"
