"""The file with the tokens of the HTTP interface. A line is `NAME:TOKEN` or a token."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from reaper.common.bounded_file import BoundedFile, UnreadableFile, read_bounded
from reaper.errors import ConfigError

UNNAMED_TOKEN = "token"  # noqa: S105
"""The name under which a token without a name acts."""

_SHORTEST_TOKEN = 16  # characters
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}")
# What may follow `Authorization: Bearer` (RFC 6750, b64token).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_HEX = re.compile(r"(?=.*[0-9])[0-9A-Fa-f]+")
# Where a random text changes between capitals, small letters and digits. A capital before a small letter begins a word.
_CHANGE = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[0-9])[A-Za-z]|(?<=[A-Z])[0-9]")


@dataclass(frozen=True)
class TokenFile:
    """What is in the file: the tokens of its right lines by their names, and a line for everything that is wrong.

    `read_once`: it is a pipe that has been read already, so that nothing follows from its being empty.
    """

    tokens: Mapping[str, SecretStr] = field(default_factory=dict)
    problems: Sequence[str] = ()
    read_once: bool = False


def read_tokens(path: Path, origin: str) -> Mapping[str, SecretStr]:
    """The tokens in the file, by their names. Raises ConfigError when anything is wrong with it."""
    file = read_token_file(path, origin)
    if file.problems:
        raise ConfigError(file.problems)
    return file.tokens


def read_token_file(path: Path, origin: str) -> TokenFile:
    """Read the file. A problem names the file, its line, and `origin`, the place that named the file, and no token.

    A file that other users can read or write has no tokens: what they can read is no secret. Its group may, as in
    Kubernetes, whose volumes belong to root and to the group of the pod.
    """
    try:
        file = read_bounded(path)
        text = file.content.decode()
    except UnreadableFile as error:
        return TokenFile({}, [f"{origin}: cannot read {path}: {error}"])
    except UnicodeDecodeError:
        return TokenFile({}, [f"{origin}: {path} is not UTF-8 text"])
    if problem := _exposure(path, file):
        return TokenFile({}, [f"{origin}: {problem}"])
    tokens, problems = _parse(text)
    if tokens or problems:
        return TokenFile(tokens, [f"{origin}: {path}, line {number}: {problem}" for number, problem in problems])
    missing = "contains no token; expected lines NAME:TOKEN" if text.strip() else "is empty"
    return TokenFile({}, [f"{origin}: {path} {missing}"], read_once=not stat.S_ISREG(file.mode))


def _exposure(path: Path, file: BoundedFile) -> str | None:
    """Why the file is no place for a secret; None when it is one."""
    if not file.mode & stat.S_IRWXO:
        return None
    mode = stat.S_IMODE(file.mode)
    return f"other users can read or write {path} (mode {mode:04o}); make new tokens, and `chmod o= {path}`"


def _parse(text: str) -> tuple[Mapping[str, SecretStr], Sequence[tuple[int, str]]]:
    """The tokens of the right lines, and the numbers of the others with what is wrong."""
    tokens, problems = dict[str, SecretStr](), list[tuple[int, str]]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, rest = line.strip().rpartition(":")
        token = rest.strip()
        problem = _line_problem(name, separator, token, tokens)
        if problem is None:
            tokens[name or UNNAMED_TOKEN] = SecretStr(token)
        else:
            problems.append((number, problem))
    return tokens, problems


def _line_problem(name: str, separator: str, token: str, earlier: Mapping[str, SecretStr]) -> str | None:
    if separator and not _NAME.fullmatch(name):
        return "before the colon, expected the token's name: letters, digits and _ . @ -, at most 63 of them"
    if _looks_like_token(name):
        return "the name before the colon looks like a token, and names are shown; expected NAME:TOKEN"
    if len(token) < _SHORTEST_TOKEN:
        return f"expected a token of {_SHORTEST_TOKEN} characters or more, such as `openssl rand -hex 32` makes"
    if not _TOKEN.fullmatch(token):
        return "a token consists of letters, digits and - . _ ~ + / ="
    if (name or UNNAMED_TOKEN) in earlier:
        return f"an earlier token is called {name or UNNAMED_TOKEN} already; give each token a name of its own"
    same = (other for other, known in earlier.items() if known.get_secret_value() == token)
    if (other := next(same, None)) is not None:
        return f"{other} has the same token; give each name a token of its own"
    return None


def _looks_like_token(name: str) -> bool:
    """Whether it is as long as a token, and hexadecimal, or changes between kinds of characters as a random text does.

    A quarter of the characters: half of those of a random text are such a change, and a sixth of those of words.
    """
    bare = re.sub("[-_.@]", "", name)
    random = _HEX.fullmatch(bare) or 4 * len(_CHANGE.findall(bare)) >= len(bare)
    return len(bare) >= _SHORTEST_TOKEN and bool(random)
