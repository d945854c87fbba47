"""What the checks ask of a database. Each kind of database answers from its own catalogs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Executable, Row

from reaper.catalog.postgresql_fixes import Fixes
from reaper.catalog.tables import Table
from reaper.database.postgresql.row_security import RowRestriction
from reaper.model import TimestampFormat


class QueryFailed(Exception):
    """A question that the database did not answer: it took too long, or it refused."""

    def __init__(self, why: str, state: str | None) -> None:
        self.state = state or ""
        super().__init__(why)


class NotVisible(Exception):
    """A table that the role may not see, or only single columns of (`partly`); else nobody knows if it is there."""

    def __init__(self, schema: str, table: str, *, partly: bool) -> None:
        self.schema, self.table, self.partly = schema, table, partly
        super().__init__(table)


@dataclass(frozen=True, slots=True)
class Server:
    """The server and the connected role."""

    role: str
    database: str
    standby: bool
    read_only: bool
    now: datetime
    started: datetime
    sees_sessions: bool
    timeouts: Mapping[str, float]


class Catalog(Protocol):
    """The database behind one connection, inside one transaction of it. Names are spelled as in a profile.

    `documents` are the families of columns that hold JSON, which is best called `document`; `clocks` says what a
    column with moments of a time format is called.
    """

    document: str
    documents: tuple[str, ...]
    clocks: Mapping[TimestampFormat, str]
    server: Server

    @property
    def fixes(self) -> Fixes:
        """The statements that mend things there."""

    def find(self, spelled: str) -> Table | None:
        """The table that a statement naming it so would reach, if the role were let into its schema.

        Raises Unanswered when somebody keeps it locked, Hidden when the role may not see it.
        """

    def has_role(self, name: str) -> bool | None:
        """There is such a role; None where that is not told."""

    def elsewhere(self, spelled: str) -> list[str]:
        """The same name in schemas where a statement would not look."""

    def search_path(self, role: str) -> Sequence[str] | None:
        """The schemas in which a name without one is looked up for a role; None where there is no such path."""

    def hiding(self, table: Table, role: str) -> Sequence[RowRestriction]:
        """The row-level security that may keep rows from a role; one that is not there is one like any other."""

    def names(self, spelled: str) -> list[str]:
        """Tables that might have been meant."""

    def viewed(self, view: Table) -> list[str]:
        """The tables that a view reads from."""

    def ask(self, statement: Executable) -> Sequence[Row[Any]]:
        """Rows, of a question that may be long or refused; raises Unanswered, and the transaction goes on."""

    def holds(self, expression: str, values: Mapping[str, tuple[str, str | None]]) -> bool | None:
        """What an expression from the catalogs says of these columns (type and value); None: nobody can tell."""

    def takes(self, words: str, value: str) -> bool:
        """A text can be read as a value of this type, as far as the role may ask."""
