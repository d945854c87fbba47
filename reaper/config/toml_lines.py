"""Where each key of a TOML document stands: tomllib gives the values of a document, not their lines.

A document is cut into tokens in one pass, so the time that it takes grows with its length and no faster.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reaper.config.schema import KeyPath

MOST_KEY_PARTS = 64
"""tomllib needs time that grows with the square of the parts of a dotted key."""

# A string whose end is missing goes on to the end of the line or of the document: tomllib refuses it.
_TOKEN = re.compile(
    r"""
      (?P<string> "{3} (?: \\. | [^"\\]++ | "(?!"") )*+ (?: "{3,5} | \\?\Z )
                | '{3} (?: [^']++ | '(?!'') )*+ (?: '{3,5} | \Z )
                | " (?: \\[^\n] | [^"\\\n]++ )*+ "?
                | ' [^'\n]*+ '? )
    | (?P<comment> \#[^\n]* )
    | (?P<line_ends> \n+ )
    | (?P<space> [\ \t]+ )
    | (?P<bracket> [\[\]{}] )
    | (?P<dot> \. )
    | (?P<separator> [,=] )
    | (?P<bare> [^"'\#\n\ \t\[\]{}.,=]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ENDS_KEY = frozenset({"line_ends", "bracket", "separator"})


def overlong_key(text: str) -> int | None:
    """The line of a key with more than MOST_KEY_PARTS parts; None without one. The document need not be valid."""
    line, parts = 1, 1
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "dot":
            parts += 1
            if parts > MOST_KEY_PARTS:
                return line
        elif token.lastgroup in _ENDS_KEY:
            parts = 1
        line += token[0].count("\n")
    return None


def line_index(text: str) -> dict[KeyPath, int]:
    """The line of every table and key of a valid TOML document.

    The document is cut into statements, and tomllib reads each by itself, with its quoted and dotted keys.
    """
    index: dict[KeyPath, int] = {}
    element_counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, is_header, parsed in _statements(text):
        if is_header:
            table = _table_of_header(parsed, element_counts)
            index.setdefault(table, line)
        else:
            for key in _keys_in(parsed):
                index.setdefault((*table, *key), line)
    return index


def nearest_line(index: Mapping[KeyPath, int], key: Sequence[str]) -> int:
    """The line of the key, else of the nearest table around it, else 1."""
    for length in range(len(key), 0, -1):
        if (line := index.get(tuple(key[:length]))) is not None:
            return line
    return 1


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """The first line of each statement, whether it is the header of a table, and its parsed value.

    Blank lines and comments are left out.
    """
    begin, first, line, depth, blank = 0, 1, 1, 0, True
    for token in _TOKEN.finditer(text := text.replace("\r\n", "\n")):
        kind = token.lastgroup
        if kind == "line_ends" and depth == 0:
            if not blank:
                yield _parsed(first, text[begin : token.end()])
            begin, first, blank = token.end(), line + len(token[0]), True
        elif kind == "bracket":
            depth += 1 if token[0] in "[{" else -1
        blank = blank and kind in {"line_ends", "comment", "space"}
        line += token[0].count("\n")
    if not blank:
        yield _parsed(first, text[begin:])


def _parsed(line: int, statement: str) -> tuple[int, bool, dict[str, Any]]:
    return line, statement.lstrip(" \t\n").startswith("["), tomllib.loads(statement)


def _table_of_header(parsed: dict[str, Any], element_counts: dict[KeyPath, int]) -> KeyPath:
    """The path of the table that a [table] or [[array of tables]] header opens. Counts the elements of arrays."""
    path: KeyPath = ()
    inner: Any = parsed
    while isinstance(inner, dict) and inner:
        ((key, inner),) = inner.items()
        path = (*path, key)
        if isinstance(inner, list):
            element_counts[path] = element_counts.get(path, -1) + 1
        if path in element_counts:
            path = (*path, str(element_counts[path]))
    return path


def _keys_in(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every key and array element inside a value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        here = (*path, str(key))
        yield here
        yield from _keys_in(inner, here)
