"""Secrets in files: those that settings name, systemd's credentials, and the tokens of the HTTP interface."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from reaper.common.suggestions import did_you_mean
from reaper.errors import ConfigError

URL_SETTINGS = ("database_url", "broker_url")
"""The settings that may contain a password. Each can be given as a file instead: `NAME_file`."""

TOKEN_CREDENTIAL = "http_token"  # noqa: S105
"""The credential with the tokens of the HTTP interface."""

UNNAMED_TOKEN = "token"  # noqa: S105
"""The name under which a token without a name acts."""

_SHORTEST_TOKEN = 16  # characters
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}")
# What may follow `Authorization: Bearer` (RFC 6750, b64token).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def read_secret(path: Path) -> str:
    """The file's text without the blanks around it. Raises ValueError for a file that is empty or cannot be read."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


# --- systemd's credentials -----------------------------------------------------------------------------------------


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


# --- tokens --------------------------------------------------------------------------------------------------------


def read_tokens(path: Path, origin: str) -> Mapping[str, SecretStr]:
    """The tokens in a file, by their names. A line is `NAME:TOKEN` or a token; empty lines and `#` lines are skipped.

    Raises ConfigError that names the file, the line and `origin`, the place that named the file. No message contains
    a token.
    """
    try:
        lines = read_secret(path).splitlines()
    except ValueError as error:
        raise ConfigError([f"{origin}: {error}"]) from None
    tokens, problems = dict[str, SecretStr](), list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, token = line.strip().rpartition(":")
        problem = _token_problem(name, separator, token.strip(), tokens)
        if problem is None:
            tokens[name or UNNAMED_TOKEN] = SecretStr(token.strip())
        else:
            problems.append(f"{origin}: {path}, line {number}: {problem}")
    if not tokens and not problems:
        problems.append(f"{origin}: {path} contains no token; expected lines NAME:TOKEN")
    if problems:
        raise ConfigError(problems)
    return tokens


def _token_problem(name: str, separator: str, token: str, earlier: Mapping[str, SecretStr]) -> str | None:
    if separator and not _TOKEN_NAME.fullmatch(name):
        return "before the colon, expected the token's name: letters, digits and _ . @ -, at most 63 of them"
    if len(token) < _SHORTEST_TOKEN:
        return f"expected a token of {_SHORTEST_TOKEN} characters or more, such as `openssl rand -hex 32` makes"
    if not _TOKEN.fullmatch(token):
        return "a token consists of letters, digits and - . _ ~ + / ="
    if (name or UNNAMED_TOKEN) in earlier:
        return f"an earlier token is called {name or UNNAMED_TOKEN} already; give each token a name of its own"
    return None
