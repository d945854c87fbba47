"""The statements that only MariaDB has: transactions and their settings, locks of a batch, row holders.

A statement that only reads locks no rows. A metadata lock protects each table that a transaction has used from ALTER
TABLE until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from reaper.database.lease import ttl_for
from reaper.database.mariadb import OLDEST_VERSION, READ_CLOCK, SESSION_SETTINGS, start_transaction
from reaper.database.mariadb.lease import lease_statements
from reaper.database.mariadb.lock_holder import LOCKING_TRANSACTIONS, PROGRAM_NAME, row_queries
from reaper.database.mariadb.unique_keys import UNIQUE_INDEXES
from reaper.database.timeouts import IDLE_SECONDS, LOCK_SECONDS
from reaper.source import Source
from reaper.source.reap import BatchLocks, Transition
from reaper.source.transition.multi_statement import Branch, MultiStatementTransition
from reaper.sql_listing.dialect import FALLBACK, ServerListing
from reaper.sql_listing.writer import ListingOptions, Statement, changed_unlocked_tables


class _Dialect(MariaDBDialect, MySQLDialect_pymysql):
    """Has what SQLAlchemy's dialect would learn of the server when it connects."""

    supports_statement_cache = True
    server_version_info = OLDEST_VERSION
    _support_float_cast = True


class MariaDBListing(ServerListing):
    """The statements of a source on MariaDB."""

    part_locks = "exclusive record locks on these rows, until the commit; a metadata lock on {}"

    def __init__(self, source: Source, options: ListingOptions) -> None:
        super().__init__(source, _Dialect(paramstyle="pyformat"), options)

    @staticmethod
    def _read_locks(tables: list[str]) -> str:
        return f"metadata locks on {', '.join(tables)}, which block only DROP, TRUNCATE and ALTER TABLE; none on rows"

    def transaction_starts(self, options: ListingOptions) -> Iterator[Statement]:
        write = self.writer.clause
        limits = {"statement": options.statement_timeout_seconds, "lock": LOCK_SECONDS, "idle": IDLE_SECONDS}
        yield write(
            "settings",
            "Runs before every transaction: UTC, READ COMMITTED, limits in seconds. MariaDB sets them per session.",
            "none",
            text(SESSION_SETTINGS),
            {name: f"{limit:g}" for name, limit in limits.items()},
        )
        yield self._read_only(start_transaction(read_only=True))
        yield write("begin", "Opens every other transaction.", "none", start_transaction(read_only=False))
        yield self._contact(text(READ_CLOCK))
        yield from self._unique_key(UNIQUE_INDEXES, {})
        timeouts, lease = lease_statements(self.writer.source.tables, ttl_for(options.interval_seconds))
        yield write(
            "lease_patience",
            "On the lease's own connection: how many seconds the lease lasts without being renewed.",
            "none",
            timeouts,
        )
        yield self._lease(lease, "one user-level lock (GET_LOCK), as long as its connection lasts")

    def reap(self, batch: BatchLocks, transition: Transition, fallback: Transition | None) -> Iterator[Statement]:
        jobs = self._profile.jobs
        yield self.writer.statement(
            "lock",
            "Begins a batch. A row that another session holds belongs to a living job, and is not waited for.",
            f"InnoDB's exclusive record locks on the rows of the batch in {jobs.table} and on the entries of the index "
            f"that finds them, until the commit; a metadata lock on {jobs.table}",
            batch.lock_rows,
        )
        yield from self._lock_parts(batch)
        yield from self._deleted_rows(transition)
        yield from self._transition(transition, "")
        if fallback is not None:
            yield from self._transition(fallback, "instead_")
        yield self._skipped(batch)

    def _transition(self, transition: Transition, prefix: str) -> Iterator[Statement]:
        write = self.writer.statement
        if not isinstance(transition, MultiStatementTransition):
            raise TypeError("MariaDB changes nothing inside a query")
        statements = transition.statements
        purpose = "Judges the locked jobs again, and reads what their ends need."
        if prefix:
            purpose = f"In a transaction of its own, {FALLBACK}: {purpose[0].lower()}{purpose[1:]}"
        yield write(f"{prefix}judge", purpose, self.read_locks, statements["judge"])
        for number, branch in enumerate(transition.branches):
            for name, purpose in self._steps(number, branch):
                locks = self._step_locks(name, branch)
                yield write(prefix + name, f"{purpose}{self.for_jobs(branch.first)}.", locks, statements[name])
        purpose = "Checks that none of the jobs still runs: a trigger may have changed a job back."
        yield write(f"{prefix}undone", purpose, self.read_locks, statements["undone"])

    @staticmethod
    def _steps(number: int, branch: Branch) -> Iterator[tuple[str, str]]:
        """The names and purposes of a transition's statements, in the order in which they are run."""
        also = [
            (f"also_{number}_{n}", f"Writes {step.table} with it, job by job")
            for n, step in enumerate(branch.action.also)
        ]
        for n in branch.there:
            table = branch.action.also[n].table
            also.append((f"there_{number}_{n}", f"Checks that the row of {table} is there, job by job"))
        for n in branch.before_transition:
            yield also[n]
        yield f"transition_{number}", "Makes the transition, job by job"
        yield from (step for n, step in enumerate(also) if n not in branch.before_transition)

    def _step_locks(self, name: str, branch: Branch) -> str:
        if name.startswith("transition"):
            return "the rows are already locked; exclusive record locks where their indexes change"
        if name.startswith("there"):
            return self.read_locks
        step = branch.action.also[int(name.rpartition("_")[2])]
        locks = (
            f"exclusive record locks on the rows of {step.table} that it writes, and a metadata lock on it; shared "
            "record locks on rows that these refer to"
        )
        waits = changed_unlocked_tables(self._profile, [branch.action])
        return f"{locks}; it waits for sessions that hold them" if waits else locks

    def row_holders(self) -> Iterator[Statement]:
        yield self.writer.clause(
            "holder",
            "Names the only transaction in this database that holds rows; needs the privilege PROCESS.",
            "none",
            text(LOCKING_TRANSACTIONS),
        )
        write, tables = self.writer.clause, self.writer.source.tables
        meaning = {"pid": "the number of its connection"}
        purpose = "Names the program of that transaction, where the server keeps it."
        yield write("program", purpose, "none", text(PROGRAM_NAME), meaning)
        if self._profile.jobs.log is not None:
            return
        for number, (table, rows) in enumerate(row_queries(tables)):
            which = f"rows in {table}, which belong to it," if table else "row"
            purpose = f"Only while there is one: locks the {which} without waiting, in a transaction that ends at once."
            locks = f"exclusive record locks on the rows of {table or self._profile.jobs.table}, for an instant"
            yield write(f"probe_{number}", purpose, locks, rows.with_for_update(skip_locked=True))
            purpose = "The same rows, locked or not: those that the probe has not locked are held by other sessions."
            yield write(f"probed_{number}", purpose, self.read_locks, rows)
