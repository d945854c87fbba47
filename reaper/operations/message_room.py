"""Whether the columns that get an operator's message have room for it: looked up before anything is written.

`reaper check` judges the longest message of a sweep. An operator's has the reason and the operator's name in it, and
may be longer. A column that another session shortens after this makes the database refuse the transition as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from reaper.catalog import QUERY_SECONDS, Catalog, NotVisible, QueryFailed
from reaper.catalog.session import Unsuitable, open_catalog
from reaper.errors import MessageTooLong
from reaper.profile import Profile, Value, Variable
from reaper.profile.column_usage import RowWrite, action_writes, possible_values
from reaper.source import Source


def require_room(source: Source, connection: Connection, message: str, action: str) -> None:
    """Raises MessageTooLong, which names the first column without room, and DatabaseUnavailable.

    In a transaction of its own. A column whose length the role may not see is left to the database.
    """
    written = list(_written_lengths(source.profile, message, action))
    if not written:
        return
    try:
        with open_catalog(connection, source.profile, QUERY_SECONDS) as catalog:
            for writing, column, length in written:
                room = _room(catalog, writing.table, column)
                if room is not None and length > room:
                    raise MessageTooLong(_refusal(writing, column, length, room))
    except Unsuitable:
        return


def _written_lengths(profile: Profile, message: str, action: str) -> Iterator[tuple[RowWrite, str, int]]:
    """Each column that gets the message, and how many characters of it."""
    names = [action] if action in profile.actions else profile.branch_names(action)
    for writing in (writing for name in names for writing in action_writes(profile, name)):
        for column, value in writing.values.items():
            lengths = [length for part in possible_values(value) if (length := _length(part, message))]
            if lengths:
                yield writing, column, max(lengths)


def _length(value: Value, message: str) -> int | None:
    if not isinstance(value, Variable) or value.name != "message":
        return None
    return min(len(message), value.most or len(message))


def _room(catalog: Catalog, table: str, column: str) -> int | None:
    """How many characters the column holds; None where there is no limit, or it cannot be seen."""
    try:
        found = catalog.find_table(table)
    except (NotVisible, QueryFailed):
        return None
    real = found.columns.get(column) if found else None
    return real.length if real and real.family == "text" else None


def _refusal(writing: RowWrite, column: str, length: int, room: int) -> str:
    return (
        f"the message with your reason would have {length} characters, and {writing.table}.{column} holds {room}: "
        f"nothing was changed. Shorten the reason by {length - room}, or let the profile cut it: "
        f'{writing.place}: {column} = {{ is = "message", most = {room} }}'
    )
