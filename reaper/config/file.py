"""The configuration file: which one, what it says, and on which line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from reaper.config import toml_lines as lines
from reaper.config.error_messages import dotted
from reaper.config.layers import CONFIG_VARIABLE, Layer
from reaper.config.secrets import SECRETS

SEARCHED = (Path("config/reaper.toml"), Path("/etc/reaper/reaper.toml"))
"""Where a file is looked for when none is named; the first that exists is read."""


@dataclass(frozen=True)
class ConfigFile(Layer):
    """A file that was read. `named_by` is the flag or variable that named it, or "default"."""

    path: Path = SEARCHED[0]
    named_by: str = "default"
    lines: Mapping[lines.KeyPath, int] = field(default_factory=dict)

    def origin(self, place: Sequence[str]) -> str:
        return f"{self.path}:{self.line(place)}"

    def line(self, place: Sequence[str]) -> int:
        return lines.line_of(self.lines, place)

    def problem(self, place: Sequence[str], message: str) -> str:
        return f"{self.origin(place)}: {dotted(place)}: {message}"


def read(flag: object, environ: Mapping[str, str], problems: list[str]) -> ConfigFile | None:
    """The file that is in force, or None. A file that was named must exist; one that exists must be readable."""
    variable = environ.get(CONFIG_VARIABLE, "").strip()
    named, named_by = (str(flag), "--config") if flag is not None else (variable, CONFIG_VARIABLE)
    if "://" in named:
        problems.append(f"{named_by}: expected the path of a file, not an address")
        return None
    if named:
        return _read(Path(named), named_by, problems)
    found = next((path for path in SEARCHED if not _absent(path)), None)
    return _read(found, "default", problems) if found else None


def _absent(path: Path) -> bool:
    """Whether nothing is there. What cannot be looked at may be there: reading it will tell."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _read(path: Path, named_by: str, problems: list[str]) -> ConfigFile | None:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        source = path if named_by == "default" else named_by
        problems.append(f"{source}: cannot read {path}: {error.strerror}")
        return None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(f"{path}:{line}: not UTF-8 text")
        return None
    try:
        return ConfigFile(_sealed(tomllib.loads(text)), path=path, named_by=named_by, lines=lines.line_index(text))
    except (ValueError, RecursionError) as error:  # wrong, or nested too deep
        problems.append(_syntax(path, text, str(error)))
        return None


def _sealed(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its URLs wrapped, so that nothing prints one by accident. Profiles hold none."""
    sealed = dict(table)
    for key, value in table.items():
        if key in SECRETS and isinstance(value, str):
            sealed[key] = SecretStr(value)
        elif key != "profiles" and isinstance(value, dict):
            sealed[key] = _sealed(value)
    return sealed


def _syntax(path: Path, text: str, message: str) -> str:
    """What tomllib said, with the line where people look for it: at the front."""
    where = re.search(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", message)
    if where is None:
        return f"{path}: not valid TOML: {message}"
    line, column = where["line"] or text.count("\n") + 1, where["column"]
    place = f"column {column}" if column else "at the end of the file"
    return f"{path}:{line}: not valid TOML: {message[: where.start()]} ({place})"
