"""The statements that both kinds of server have, and the interface of what only one of them has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from sqlalchemy import ClauseElement, Dialect, text

from reaper.source import Source
from reaper.source.deleted_rows import deleted_row_queries
from reaper.source.reap import BatchLocks, Transition
from reaper.source.unique_key import shared_by_running_query
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter

FALLBACK = "for a job whose transition a unique key refuses"


class ServerListing(ABC):
    """The statements of a source whose locks, or SQL, differ between the servers."""

    part_locks: str
    """The locks on the rows of a part; {} stands for its table."""

    def __init__(self, source: Source, dialect: Dialect, options: ListingOptions) -> None:
        self.writer = StatementWriter(source, dialect, options)
        self._profile = source.profile
        self.read_locks = self._read_locks(sorted(self._profile.tables))

    @staticmethod
    @abstractmethod
    def _read_locks(tables: list[str]) -> str:
        """The locks of a statement that reads these tables."""

    @abstractmethod
    def transaction_starts(self, options: ListingOptions) -> Iterator[Statement]:
        """Opens transactions, and takes the lease of the sweeps."""

    @abstractmethod
    def reap(self, batch: BatchLocks, transition: Transition, fallback: Transition | None) -> Iterator[Statement]:
        """Locks, judges and ends a batch. `fallback` ends a job whose transition a unique key refuses."""

    @abstractmethod
    def row_holders(self) -> Iterator[Statement]:
        """Finds the transaction that holds the row of a silent job."""

    def _read_only(self, clause: ClauseElement) -> Statement:
        return self.writer.clause("read_only", "Opens every transaction that only reads.", "none", clause)

    def _contact(self, clause: ClauseElement) -> Statement:
        purpose = "Reads the clock that decides, and whether the server takes writes."
        return self.writer.clause("contact", purpose, "none", clause)

    def _lease(self, clause: ClauseElement, locks: str) -> Statement:
        purpose = (
            "Lets one of several daemons sweep. A daemon that does not renew the lease for three intervals (30 s at "
            "least) loses it."
        )
        return self.writer.clause("lease", purpose, locks, clause)

    def _unique_key(self, query: str, meanings: Mapping[str, str]) -> Iterator[Statement]:
        """`query` asks the catalogs, with these parameters beside the schema and the name of the table."""
        jobs, table = self._profile.jobs, self.writer.source.tables.jobs
        if jobs.log is None:
            names = {"schema": repr(table.schema) if table.schema else "NULL", "name": repr(str(table.name))}
            purpose = "Looks whether a unique index covers the key."
            yield self.writer.clause("unique", purpose, "none", text(query), {**names, **meanings})
            purpose = "Only where none does: looks whether several running jobs share a key. If so, no job is judged."
            yield self.writer.query("shared", purpose, self.read_locks, shared_by_running_query)

    def _lock_parts(self, batch: BatchLocks) -> Iterator[Statement]:
        jobs = self._profile.jobs
        for number, (part, (all_rows, lock)) in enumerate(
            zip(jobs.parts, batch.related_row_locks, strict=True), start=1
        ):
            yield self.writer.statement(
                f"part_{number}",
                f"Locks the rows of {part.table} that belong to the jobs: a job ends with all of them, or not at all.",
                self.part_locks.format(part.table),
                lock,
            )
            yield self.writer.statement(
                f"whole_{number}",
                f"Finds all rows of {part.table} that belong to the jobs; those not locked are held by other sessions.",
                self._read_locks(sorted({part.table, jobs.table})),
                all_rows,
            )

    def _deleted_rows(self, transition: Transition) -> Iterator[Statement]:
        queries = deleted_row_queries(self._profile, transition.actions)
        for number, (table, _, query, arguments) in enumerate(queries, start=1):
            purpose = f"Reads the rows of {table} that are to be deleted, for the log: the first of each job."
            locks = self._read_locks(sorted({table, self._profile.jobs.table}))
            yield self.writer.query(f"deleted_{number}", purpose, locks, query, *arguments)

    def for_jobs(self, first: bool | None) -> str:
        """Which jobs get the first of the source's two actions, and which the second; empty where there is one."""
        action = self.writer.source.options.action
        if first is None:
            return ""
        if action in self._profile.choices:
            return f" for jobs that meet choices.{action}" if first else " for the other jobs"
        return " for jobs that have attempts left" if first else " for jobs that have none left"

    def _skipped(self, batch: BatchLocks) -> Statement:
        purpose = "Separates jobs that another session holds from jobs that have ended."
        return self.writer.statement("skipped", purpose, self.read_locks, batch.still_running)
