"""The file with the tokens of the HTTP interface: a line each, `NAME:TOKEN`, or a token alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from reaper.config.secrets import read_secret
from reaper.errors import ConfigError

NAMELESS = "token"
"""Who acts with a token that has no name."""

SHORTEST = 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}")
# What may stand behind `Authorization: Bearer` (RFC 6750, b64token).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def read_tokens(path: Path, origin: str) -> Mapping[str, SecretStr]:
    """Each token by its name. Lines that are empty or begin with # say nothing.

    Raises ConfigError that names the file, the line and `origin`; no message holds a token.
    """
    try:
        lines = read_secret(path).splitlines()
    except ValueError as error:
        raise ConfigError([f"{origin}: {error}"]) from None
    found, problems = dict[str, SecretStr](), list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, token = line.strip().rpartition(":")
        wrong = _wrong(name, separator, token.strip(), found)
        if wrong is None:
            found[name or NAMELESS] = SecretStr(token.strip())
        else:
            problems.append(f"{origin}: {path}, line {number}: {wrong}")
    if not found and not problems:
        problems.append(f"{origin}: {path} holds no token")
    if problems:
        raise ConfigError(problems)
    return found


def _wrong(name: str, separator: str, token: str, found: Mapping[str, SecretStr]) -> str | None:
    if separator and not _NAME.fullmatch(name):
        return "before the colon, expected the token's name: letters, digits and _ . @ -, at most 63 of them"
    if len(token) < SHORTEST:
        return f"expected a token of {SHORTEST} characters or more, such as `openssl rand -hex 32` makes"
    if not _TOKEN.fullmatch(token):
        return "a token consists of letters, digits and - . _ ~ + / ="
    if (name or NAMELESS) in found:
        return f"there is a token called {name or NAMELESS} already"
    return None
