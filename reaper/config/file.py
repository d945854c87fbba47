"""The configuration file: which file is read, its values, and the line of each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from reaper.common.bounded_file import UnreadableFile, read_bounded
from reaper.config.error_messages import dotted
from reaper.config.layers import CONFIG_VARIABLE, Layer
from reaper.config.schema import KeyPath
from reaper.config.secret_files import URL_SETTINGS
from reaper.config.toml_lines import MOST_KEY_PARTS, line_index, nearest_line, overlong_key

SEARCHED = (Path("config/reaper.toml"), Path("/etc/reaper/reaper.toml"))
"""Where a file is looked for when none is named; the first that exists is read."""


@dataclass(frozen=True)
class ConfigFile(Layer):
    """The layer of a file. `named_by` is the flag or the variable that named the file, or "default"."""

    path: Path = SEARCHED[0]
    named_by: str = "default"
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def origin(self, key: Sequence[str]) -> str:
        return f"{self.path}:{self.line(key)}"

    def line(self, key: Sequence[str]) -> int:
        return nearest_line(self.lines, key)

    def problem(self, key: Sequence[str], message: str) -> str:
        return f"{self.origin(key)}: {dotted(key)}: {message}"


def read(flag: object, environ: Mapping[str, str], problems: list[str]) -> ConfigFile | None:
    """The file that `--config` (`flag`) or the environment names, else the first of SEARCHED, else None.

    A file that is named must exist, and a file that exists must be readable: what is wrong is added to `problems`.
    """
    variable = environ.get(CONFIG_VARIABLE, "").strip()
    path, named_by = (str(flag), "--config") if flag is not None else (variable, CONFIG_VARIABLE)
    if "://" in path:
        problems.append(f"{named_by}: expected the path of a file, not an address")
        return None
    if path:
        return _read(Path(path), named_by, problems)
    first = next((path for path in SEARCHED if not _is_absent(path)), None)
    return _read(first, "default", problems) if first else None


def _is_absent(path: Path) -> bool:
    """Whether no file is there. A path that cannot be examined may have one: reading it reports the error."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _read(path: Path, named_by: str, problems: list[str]) -> ConfigFile | None:
    try:
        text = read_bounded(path).content.decode("utf-8-sig")
    except UnreadableFile as error:
        source = path if named_by == "default" else named_by
        problems.append(f"{source}: cannot read {path}: {error}")
        return None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(f"{path}:{line}: not UTF-8 text")
        return None
    if (overlong := overlong_key(text)) is not None:
        problems.append(f"{path}:{overlong}: a key has more than {MOST_KEY_PARTS} parts")
        return None
    try:
        values = _with_secrets(tomllib.loads(text))
        return ConfigFile(values, path=path, named_by=named_by, lines=line_index(text))
    except (ValueError, RecursionError) as error:  # invalid, or nested too deep
        problems.append(_syntax_problem(path, text, str(error)))
        return None


def _with_secrets(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its URLs as SecretStr, so that no output shows one by accident. Profiles have none."""
    wrapped = dict(table)
    for key, value in table.items():
        if key in URL_SETTINGS and isinstance(value, str):
            wrapped[key] = SecretStr(value)
        elif key != "profiles" and isinstance(value, dict):
            wrapped[key] = _with_secrets(value)
    return wrapped


def _syntax_problem(path: Path, text: str, message: str) -> str:
    """tomllib's message, with the line at the front, as in every other message."""
    position = re.search(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", message)
    if position is None:
        return f"{path}: not valid TOML: {message}"
    line, column = position["line"] or text.count("\n") + 1, position["column"]
    where = f"column {column}" if column else "at the end of the file"
    return f"{path}:{line}: not valid TOML: {message[: position.start()]} ({where})"
