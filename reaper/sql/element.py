"""Expressions with one meaning, and a spelling for each database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sqlalchemy import BinaryExpression, ColumnElement, FromClause
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import NullType, TypeEngine

Element = ColumnElement[Any]
Spelling = Callable[..., Element]
_Internals = list[tuple[str, InternalTraversal]]


class DialectElement(FunctionElement[Any]):
    """What one of two functions makes of the same parts, when it is known for which database.

    A condition has no type: one that is Boolean is compared with 1 on MariaDB, which then uses no index.
    """

    _traverse_internals: ClassVar[_Internals] = [  # type: ignore[misc]
        *FunctionElement._traverse_internals,
        ("type", InternalTraversal.dp_type),
        ("postgresql", InternalTraversal.dp_plain_obj),
        ("mariadb", InternalTraversal.dp_plain_obj),
    ]

    def __init__(self, kind: TypeEngine[Any], postgresql: Spelling, mariadb: Spelling, *parts: Element) -> None:
        super().__init__(*parts)
        self.type, self.postgresql, self.mariadb = kind, postgresql, mariadb


@compiles(DialectElement)
def _spell(element: DialectElement, compiler: SQLCompiler, **options: Any) -> str:
    spelling = element.postgresql if compiler.dialect.name == "postgresql" else element.mariadb
    spelled = spelling(*element.clauses)
    text = compiler.process(spelled, **options)
    # Whatever stands around it takes it for a function, and puts no brackets.
    return f"({text})" if isinstance(spelled, BinaryExpression) else text


class RawSql(ColumnElement[Any]):
    """SQL of somebody's own with expressions in its places, in brackets."""

    _traverse_internals: ClassVar[_Internals] = [  # type: ignore[misc]
        ("texts", InternalTraversal.dp_plain_obj),
        ("places", InternalTraversal.dp_clauseelement_list),
    ]

    def __init__(self, parts: Sequence[str | Element]) -> None:
        self.type = NullType()
        self.texts = tuple(part if isinstance(part, str) else None for part in parts)
        self.places = [part for part in parts if not isinstance(part, str)]

    @property
    def _from_objects(self) -> list[FromClause]:
        return [found for place in self.places for found in place._from_objects]

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002  it has its brackets
        return self


@compiles(RawSql)
def _as_it_stands(element: RawSql, compiler: SQLCompiler, **options: Any) -> str:
    places = iter(element.places)
    write: Callable[[str], str] = compiler.post_process_text
    parts = [compiler.process(next(places), **options) if text is None else write(text) for text in element.texts]
    return f"({''.join(parts)})"
