"""Database access for the worlds: what differs between the servers.

Common SQL has names in double quotes and `%s` for values. The modules `postgresql` and `mariadb` implement the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar


class Deadlock(Exception):
    """The session was the victim of a deadlock. They occur on MariaDB, because InnoDB also locks index entries."""


class Session(ABC):
    """A session of the job system or of the test. `number` is its id in the server's process list."""

    number: int
    integrity_error: ClassVar[type[Exception]]
    """What the driver raises when a constraint rejects a statement."""

    def __init__(self, connection: Any) -> None:
        """`connection` is the driver's, by the Python Database API (PEP 249)."""
        self._connection = connection

    @abstractmethod
    def do(self, statement: str, *values: object) -> int:
        """Execute a statement. Returns the number of changed rows."""

    def do_unless_refused(self, statement: str, *values: object) -> bool:
        """Execute a statement. Returns False, with the transaction rolled back, when a constraint rejects it."""
        try:
            self.do(statement, *values)
        except self.integrity_error:
            self.rollback()
            return False
        return True

    @abstractmethod
    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    def one(self, statement: str, *values: object) -> Any:
        """The single value of a query."""
        [[value]] = self.ask(statement, *values)
        return value

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Database(ABC):
    """A database, with ways to block and to reject writes."""

    ago: ClassVar[str]
    """SQL for the point in time `%s` seconds ago."""
    naive_ago: ClassVar[str]
    """The same without a time zone, in UTC."""

    host: ClassVar[str] = ""
    """Suffix of role names in statements."""

    deadlocks: ClassVar[bool] = False
    """Whether two sessions that lock one row can deadlock, with the reaper as the victim."""

    def __init__(self, url: str) -> None:
        """`url` connects as the owner; `reaper` is the URL that the reaper uses."""
        self.url = self.reaper = url

    @abstractmethod
    def session(self, *, autocommit: bool = False) -> Session:
        """A new session. Without `autocommit` its first statement opens a transaction."""

    @abstractmethod
    def restrict_to_role(self, role: str, granted: Iterable[str]) -> None:
        """From now on the reaper connects as `role`, with these grants and without those of PUBLIC."""

    @abstractmethod
    def drop_role(self, role: str) -> None:
        """Drop the role. The reaper connects as the owner again."""

    @abstractmethod
    def create(self, tables: str) -> None:
        """Create the tables of a shipped file."""

    @abstractmethod
    def rows(self, session: Session, table: str) -> list[str]:
        """Every column of every row of a table, as text."""

    @abstractmethod
    def document(self, value: Any) -> Any:
        """The decoded value of a JSON column."""

    # --- sessions and locks --------------------------------------------------------------------------------------

    @abstractmethod
    def is_blocked(self, session: Session, watcher: Session) -> bool:
        """Whether the session waits for a lock of another session."""

    @abstractmethod
    def reaper_sessions(self, watcher: Session) -> int:
        """The number of sessions of reapers, including those of killed processes."""

    @abstractmethod
    def gate_has_waiter(self, watcher: Session) -> bool:
        """Whether a session waits at the gate of `blocking_writes`."""

    # --- faults --------------------------------------------------------------------------------------------------

    raise_statement: ClassVar[str]
    """Trigger statement that raises an error."""
    wait_statement: ClassVar[str]
    """Trigger statement that waits at the gate."""
    close_gate_statement: ClassVar[str]
    """Statement that closes the gate until its session ends."""

    @contextmanager
    def refusing_writes(self, table: str, operation: str) -> Iterator[None]:
        """During the block, every such write raises an error."""
        with self.with_trigger(table, operation, self.raise_statement):
            yield

    @contextmanager
    def blocking_writes(self, table: str, operation: str) -> Iterator[None]:
        """Every such write waits until the end of the block."""
        with self.with_trigger(table, operation, self.wait_statement), self.session(autocommit=True) as gate:
            gate.ask(self.close_gate_statement)
            yield

    @abstractmethod
    def with_trigger(self, table: str, operation: str, what: str) -> AbstractContextManager[None]:
        """During the block, a trigger runs statement `what` before every such write."""
