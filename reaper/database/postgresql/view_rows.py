"""The rows behind a view on PostgreSQL: what locks a row of a view locks the row of the table, which carries the mark.

The server keeps the query of a view as a tree. Its list of results says of each column which column of which table it
is; a column that is computed is none. A view that cannot be updated has no row of a table for each of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    TableClause,
    Text,
    cast,
    column,
    exists,
    null,
    select,
    table,
    text,
    type_coerce,
)

from reaper.sql.tables import reserved_alias

_VIEW = """
    SELECT c.oid, r.ev_action::text AS query
    FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename = '_RETURN'
    WHERE c.oid = to_regclass(:name) AND c.relkind = 'v' AND pg_relation_is_updatable(c.oid, false) & 4 = 4
    """
_COLUMNS = "SELECT attnum, attname FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped"
_TABLE = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = :oid"
_RESULT = re.compile(r"\{TARGETENTRY [^{}]*?:resno (\d+) [^{}]*?:resorigtbl (\d+) :resorigcol (\d+)")
_DEEPEST = 2
"""A result of the query itself is at this depth of the tree; those of queries within it are deeper."""
_MOST_VIEWS = 10


@dataclass(frozen=True, slots=True)
class RowsBehindView:
    """`rows` has the columns of the view by their names there, and the system column `mark` of the table. A column that
    is computed is NULL.
    """

    table: TableClause
    rows: FromClause


def rows_behind_view(
    connection: Connection, view: TableClause, by: Collection[str], mark: str
) -> RowsBehindView | None:
    """None for a table, and for a view that cannot be updated.

    `by`: columns by which rows are looked for; none is found where one of them is computed. The table may have rows
    with equal ones that are not in the view, so the view's other columns have to be equal, too.
    """
    behind = _behind(connection, view)
    if behind is None:
        return None
    found, names = behind
    for _ in range(_MOST_VIEWS):
        if (behind := _behind(connection, found)) is None:
            break
        found, columns = behind
        names = {name: columns[original] for name, original in names.items() if original in columns}
    types = {own.name: own.type for own in view.c}
    here = {name: column(original, types.get(name), _selectable=found) for name, original in names.items()}
    results: list[ColumnElement[Any]] = [
        (here[name] if name in here else type_coerce(null(), type_)).label(name) for name, type_ in types.items()
    ]
    results.append(column(mark, _selectable=found).label(mark))
    shown = table(view.name, *map(column, names), schema=view.schema).alias(reserved_alias("shown"))
    same = (
        shown.c[name] == ours if name in by else cast(shown.c[name], Text).is_not_distinct_from(cast(ours, Text))
        for name, ours in here.items()
    )
    rows = select(*results).select_from(found).where(exists().select_from(shown).where(*same))
    return RowsBehindView(found, rows.subquery(reserved_alias("behind")))


def _behind(connection: Connection, view: TableClause) -> tuple[TableClause, Mapping[str, str]] | None:
    """What a view reads its rows from, and which of its columns is which there."""
    named = connection.dialect.identifier_preparer.format_table(view)
    row = connection.execute(text(_VIEW), {"name": named}).one_or_none()
    if row is None:
        return None
    results = list(_results(row.query))
    origins = {origin for _, origin, _ in results}
    if len(origins) != 1:
        return None
    [origin] = origins
    ours, theirs = _columns(connection, row.oid), _columns(connection, origin)
    place = connection.execute(text(_TABLE), {"oid": origin}).one()
    columns = {ours[number]: theirs[original] for number, _, original in results}
    return table(place.relname, schema=place.nspname), columns


def _columns(connection: Connection, oid: int) -> dict[int, str]:
    rows = connection.execute(text(_COLUMNS), {"oid": oid})
    return {row.attnum: row.attname for row in rows}


def _results(query: str) -> Iterator[tuple[int, int, int]]:
    """Of each result that is a column: its number, its table, and its number there."""
    for number, origin, original in _RESULT.findall("".join(_of_the_query_itself(query))):
        if origin != "0":
            yield int(number), int(origin), int(original)


def _of_the_query_itself(query: str) -> Iterator[str]:
    """The text without what is deeper, and with no brace that belongs to a name."""
    depth, escaped = 0, False
    for character in query:
        depth += character == "{" and not escaped
        if depth <= _DEEPEST:
            yield "?" if escaped else character
        depth -= character == "}" and not escaped
        escaped = character == "\\" and not escaped
