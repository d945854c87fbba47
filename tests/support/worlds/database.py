"""Hands on a database: what worlds need beside the SQL that every server understands.

That SQL has names in double quotes and `%s` for values. `postgresql` and `mariadb` say the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar


class Deadlock(Exception):
    """InnoDB locks the entries of indexes too, and of two who come from different ones it sends one back."""


class Session(ABC):
    """One session of the job system's own, or of whoever looks. `number` is its name among the server's processes."""

    number: int

    @abstractmethod
    def do(self, statement: str, *values: object) -> int:
        """How many rows it changed."""

    @abstractmethod
    def do_unless_refused(self, statement: str, *values: object) -> bool:
        """False when a constraint does not allow it; the transaction is over then."""

    @abstractmethod
    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows."""

    def one(self, statement: str, *values: object) -> Any:
        """The only value of the only row."""
        [[found]] = self.ask(statement, *values)
        return found

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Database(ABC):
    """A database, and what can happen in it."""

    ago: ClassVar[str]
    """The moment so many seconds ago, in SQL."""
    naive_ago: ClassVar[str]
    """The same without a time zone, in UTC."""

    host: ClassVar[str] = ""
    """What the name of a role is followed by in its statements."""

    deadlocks: ClassVar[bool] = False
    """Whether two who want one row may meet in a deadlock, and the reaper be the one that is sent back."""

    def __init__(self, url: str) -> None:
        """`url` is its owner's, and `reaper` what the reaper connects with."""
        self.url = self.reaper = url

    @abstractmethod
    def session(self, *, autocommit: bool = False) -> Session:
        """A session of its own; unless `autocommit`, with an open transaction from its first statement on."""

    @abstractmethod
    def restrict_to_role(self, role: str, granted: Iterable[str]) -> None:
        """From now on the reaper is a role that may do what has been granted, and not even what everybody may."""

    @abstractmethod
    def drop_role(self, role: str) -> None:
        """The role is no more, and the reaper is the owner again."""

    @abstractmethod
    def create(self, tables: str) -> None:
        """The tables of a shipped file."""

    @abstractmethod
    def rows(self, session: Session, table: str) -> list[str]:
        """Every column of every row of a table."""

    @abstractmethod
    def document(self, value: Any) -> Any:
        """What stands in a JSON column."""

    # --- who is waiting, and who is there ------------------------------------------------------------------------

    @abstractmethod
    def is_blocked(self, session: Session, watcher: Session) -> bool:
        """The session waits for a lock that another one holds."""

    @abstractmethod
    def reaper_sessions(self, watcher: Session) -> int:
        """How many sessions of reapers there are, alive or dead."""

    @abstractmethod
    def gate_has_waiter(self, watcher: Session) -> bool:
        """Somebody stands before the gate of `holding`."""

    # --- what can go wrong ---------------------------------------------------------------------------------------

    raise_statement: ClassVar[str]
    """A statement of a trigger that raises an error."""
    wait_statement: ClassVar[str]
    """A statement of a trigger that waits at the gate."""
    close_gate_statement: ClassVar[str]
    """The statement that closes it, for as long as the session lasts."""

    @contextmanager
    def refusing_writes(self, table: str, operation: str) -> Iterator[None]:
        """Every such write raises an error meanwhile."""
        with self.with_trigger(table, operation, self.raise_statement):
            yield

    @contextmanager
    def blocking_writes(self, table: str, operation: str) -> Iterator[None]:
        """Every such write waits for the end of the block."""
        with self.with_trigger(table, operation, self.wait_statement), self.session(autocommit=True) as access_control:
            access_control.ask(self.close_gate_statement)
            yield

    @abstractmethod
    def with_trigger(self, table: str, operation: str, what: str) -> AbstractContextManager[None]:
        """Every such write does this first, meanwhile."""
