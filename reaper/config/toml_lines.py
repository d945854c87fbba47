"""Where things stand in a TOML file: tomllib tells what a document says, not on which line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KeyPath = tuple[str, ...]
"""The keys that lead to a value, from the top of the document; positions in arrays as digits."""


def line_index(text: str) -> dict[KeyPath, int]:
    """The line of every table and key of a valid document.

    The document is cut into statements, each the fewest lines that tomllib accepts by themselves; so strings
    and arrays over several lines, quoted and dotted keys are read by the parser that reads the document.
    """
    found: dict[KeyPath, int] = {}
    elements: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, statement, parsed in _statements(text):
        if statement.lstrip().startswith("["):
            table = _header(parsed, elements)
            found.setdefault(table, number)
        else:
            for place in _places(parsed):
                found.setdefault((*table, *place), number)
    return found


def line_of(lines: Mapping[KeyPath, int], place: Sequence[str]) -> int:
    """The line of the place, or of the nearest table around it; 1 for the document itself."""
    for length in range(len(place), 0, -1):
        if (line := lines.get(tuple(place[:length]))) is not None:
            return line
    return 1


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """First line, text and meaning of each statement; blank lines and comments are none."""
    begin, pending = 1, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        pending += f"{line}\n"
        try:
            parsed = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if parsed:
            yield begin, pending, parsed
        begin, pending = number + 1, ""


def _header(parsed: dict[str, Any], elements: dict[KeyPath, int]) -> KeyPath:
    """The place that a [table] or [[array of tables]] header opens; counts the arrays' elements."""
    place: KeyPath = ()
    inside: Any = parsed
    while isinstance(inside, dict) and inside:
        ((key, inside),) = inside.items()
        place = (*place, key)
        if isinstance(inside, list):
            elements[place] = elements.get(place, -1) + 1
        if place in elements:
            place = (*place, str(elements[place]))
    return place


def _places(value: Any, place: KeyPath = ()) -> Iterator[KeyPath]:
    """Every place inside a statement's value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in inner:
        here = (*place, str(key))
        yield here
        yield from _places(inside, here)
