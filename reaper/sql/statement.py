"""A compiled statement: its text as the driver gets it, its constants, and how its other values are converted.

SQLAlchemy's objects are needed to build and to compile a statement, and are dropped then. What is left can be shared
between threads, and run any number of times with other values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from reaper.sql.keys import ValueList

_PLACES = re.compile(r"%%|%\((\w+)\)s")

Values = Mapping[str, Any]
"""The values of parameters by name. Those that a statement does not have are ignored."""


class CompiledStatement:
    """`constants` are the parameters whose value never changes, as the driver gets them.

    `parameters` are the others, each with the conversion of its value for the driver; None: it needs none. The value of
    one of `lists` is a list: its place in the text is taken by one parameter for each item.
    """

    __slots__ = ("constants", "lists", "parameters", "text")

    def __init__(self, clause: ClauseElement, dialect: Dialect) -> None:
        compiled = clause.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"{type(clause).__name__} cannot be compiled to a statement")
        binds = {compiled.escaped_bind_names.get(name, name): bind for name, bind in compiled.binds.items()}
        conversions = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in binds.items()}
        required = [name for name, bind in binds.items() if bind.required]
        state = compiled.construct_expanded_state(dict.fromkeys(required))
        self.text = state.statement
        self.parameters: dict[str, Callable[[Any], Any] | None] = {name: conversions[name] for name in required}
        self.lists = {name: kind for name in required if isinstance(kind := binds[name].type, ValueList)}
        self.constants = {
            name: _converted(conversions.get(name), value)
            for name, value in state.parameters.items()
            if name not in self.parameters
        }

    def execute(self, connection: Connection, values: Values) -> CursorResult[Any]:
        """Run it once. Rows have the driver's values. Raises DBAPIError."""
        return connection.exec_driver_sql(*self.bound(values))

    def execute_many(self, connection: Connection, rows: Sequence[Values]) -> int:
        """Run it once for each of `rows`. Returns how many rows it changed in all. Raises DBAPIError."""
        return connection.exec_driver_sql(self.text, [self._bind(values) for values in rows]).rowcount

    def bound(self, values: Values) -> tuple[str, dict[str, Any]]:
        """The text and the parameters for the driver."""
        text, parameters = self.text, self._bind(values)
        for name, kind in self.lists.items():
            text, items = with_list(text, name, kind.stored(parameters.pop(name)))
            parameters |= items
        return text, parameters

    def _bind(self, values: Values) -> dict[str, Any]:
        own = {name: _converted(conversion, values[name]) for name, conversion in self.parameters.items()}
        return {**self.constants, **own}


def with_list(text: str, name: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """The text with the items of this list, and their parameters."""
    places, parameters = _items(name, values)
    return with_places(text, lambda other: places if other == name else f"%({other})s"), parameters


def with_places(text: str, place_of: Callable[[str], str], percent: str = "%%") -> str:
    """The text with other places of its parameters. `percent` takes the place of a percent sign, which is doubled: such
    a one, in the name of a column, begins no place, whatever follows it.
    """
    return _PLACES.sub(lambda found: percent if found[1] is None else place_of(found[1]), text)


class StatementCompiler:
    """Compiles statements for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def __call__(self, clause: ClauseElement) -> CompiledStatement:
        return CompiledStatement(clause, self.dialect)


def _items(name: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """A list in brackets, with a parameter for each item, or for each part of an item that is a tuple."""
    places, parameters = [], dict[str, Any]()
    for n, value in enumerate(values, start=1):
        if isinstance(value, tuple):
            place, parts = _items(f"{name}_{n}", value)
            parameters |= parts
        else:
            place = f"%({name}_{n})s"
            parameters[f"{name}_{n}"] = value
        places.append(place)
    return f"({', '.join(places)})", parameters


def _converted(conversion: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if conversion is None else conversion(value)
