"""The statements that only PostgreSQL has: transactions and their settings, locks of a batch, row holders."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.database.lease import ttl_for
from reaper.database.postgresql import IDLE_MS, LOCK_MS, READ_CLOCK, TRANSACTION_SETTINGS
from reaper.database.postgresql.lease import lease_statement
from reaper.database.postgresql.lock_holder import (
    LOG_WRITER,
    MULTIXACT_MEMBERS,
    OLDER_TRANSACTIONS,
    TRANSACTION_OWNER,
    numbers_query,
)
from reaper.database.postgresql.named_tables import NAMED_TABLES
from reaper.database.postgresql.row_security import has_policies_query, own_restrictions_query
from reaper.database.postgresql.search_path import SET_PATH, pinned_path
from reaper.database.postgresql.unique_keys import UNIQUE_KEY
from reaper.profile.related_tables import liveness_tables
from reaper.source import Source
from reaper.source.reap import BatchLocks, Transition
from reaper.sql_listing.dialect import FALLBACK, ServerListing
from reaper.sql_listing.writer import ListingOptions, Statement, changed_unlocked_tables, written_tables


class PostgreSQLListing(ServerListing):
    """The statements of a source on PostgreSQL."""

    part_locks = "ROW SHARE on {}; FOR UPDATE on these rows, until the commit"

    def __init__(self, source: Source, options: ListingOptions) -> None:
        super().__init__(source, PGDialect_psycopg(), options)  # type: ignore[no-untyped-call]

    @staticmethod
    def _read_locks(tables: list[str]) -> str:
        return f"ACCESS SHARE on {', '.join(tables)}, which blocks only DROP, TRUNCATE and ALTER TABLE"

    def transaction_starts(self, options: ListingOptions) -> Iterator[Statement]:
        write, tables = self.writer.clause, self.writer.source.tables
        limits = {"statement": round(options.statement_timeout_seconds * 1000), "lock": LOCK_MS, "idle": IDLE_MS}
        yield self._read_only(text("SET TRANSACTION READ ONLY"))
        yield write(
            "begin",
            "Opens every transaction, after that: where names are looked up, UTC, and limits in milliseconds, all for "
            "this transaction alone.",
            "none",
            text(TRANSACTION_SETTINGS),
            {"path": self._pinned_path, **{name: repr(f"{limit}") for name, limit in limits.items()}},
        )
        yield self._contact(text(READ_CLOCK))
        if clauses := [tables.table(name) for name in liveness_tables(self._profile)]:
            purpose = "Checks whether a table with signs of life has row-level security, or is a view."
            yield write("policies", purpose, "none", has_policies_query(clauses))
            purpose = "Only then: checks whether row-level security may hide signs of life. If so, no job is judged."
            yield write("signs", purpose, "none", own_restrictions_query(clauses))
        if tables.identities:
            named = [tables.table(name) for name in sorted(tables.identities)]
            yield write(
                "names",
                "Looks whether the names still mean the tables that they meant at the first contact.",
                "none",
                text(NAMED_TABLES),
                {
                    "names": repr(sorted({table.name for table in named})),
                    "schemas": repr(sorted({table.schema for table in named if table.schema})),
                    "path": "the schemas of the role's own search path, an array",
                },
            )
        yield from self._unique_key(UNIQUE_KEY, {"columns": repr([*self._profile.jobs.key])})
        lease = lease_statement(tables, self.writer.dialect, ttl_for(options.interval_seconds))
        yield self._lease(lease, "one advisory lock")

    def reap(self, batch: BatchLocks, transition: Transition, fallback: Transition | None) -> Iterator[Statement]:
        yield self._lock(batch)
        yield from self._lock_parts(batch)
        yield from self._close_log(batch)
        yield from self._deleted_rows(transition)
        purpose = "Judges the locked jobs again, ends those that are still stale, and writes what belongs to that."
        yield self._end(transition, "end", purpose)
        if fallback is not None:
            yield self._end(fallback, "instead", f"The same, in a transaction of its own, {FALLBACK}.")
        yield self.writer.clause(
            "path",
            "Pins the path again after a statement that has written; before the commit, sets the role's own one, for "
            "triggers that are deferred until then.",
            "none",
            text(SET_PATH),
            {"path": self._pinned_path},
        )
        yield self._skipped(batch)

    @property
    def _pinned_path(self) -> str:
        return repr(pinned_path(self.writer.source.lookup_schemas))

    def _lock(self, batch: BatchLocks) -> Statement:
        jobs = self._profile.jobs
        if jobs.log is None:
            held, locks = "row", f"ROW SHARE on {jobs.table}; FOR UPDATE on the rows of the batch, until the commit"
        else:
            held, locks = "job's lock", f"an advisory lock for each job, until the commit; {self.read_locks}"
        purpose = f"Begins a batch. A {held} that another session holds means a living job, and is not waited for."
        return self.writer.statement("lock", purpose, locks, batch.lock_rows)

    def _close_log(self, batch: BatchLocks) -> Iterator[Statement]:
        steps = (
            ("patience", "Limits how many milliseconds the next statement waits; then the batch is given up.", "none"),
            (
                "close",
                "Keeps new entries out of the log from the last judgement to the commit; other sessions may read.",
                f"SHARE ROW EXCLUSIVE on {self._profile.jobs.table}, until the commit: it waits for sessions that "
                "write, and sessions that write wait for it",
            ),
        )
        for (name, purpose, locks), statement in zip(steps, batch.log_lock.statements, strict=False):
            yield self.writer.statement(name, purpose, locks, statement)

    def _end(self, transition: Transition, name: str, purpose: str) -> Statement:
        [statement] = transition.statements.values()
        actions = transition.actions
        locks = f"ROW EXCLUSIVE on {', '.join(written_tables(self._profile, actions))}"
        unlocked = changed_unlocked_tables(self._profile, actions)
        if self._profile.jobs.log is None:
            locks += "; the jobs' rows are already locked"
        locks += f"; the rows of {', '.join(unlocked)} that it changes, for which it waits" if unlocked else ""
        if len(actions) > 1:
            then, otherwise = self._profile.branch_names(self.writer.source.options.action)
            purpose += f" It takes {then!r}{self.for_jobs(True)}, and {otherwise!r}{self.for_jobs(False)}."
        return self.writer.statement(name, purpose, locks, statement)

    def row_holders(self) -> Iterator[Statement]:
        write = self.writer.clause
        table = self.writer.dialect.identifier_preparer.format_table(self.writer.source.tables.jobs)
        if self._profile.jobs.log is not None:
            purpose = "Names the session that has locked the log for the longest time."
            yield write("writer", purpose, "none", text(LOG_WRITER), {"table": repr(table)})
            return
        meanings = {"numbers": "transactions, an array", "number": "the transaction, or several, that the row names"}
        tables, purpose = self.writer.source.tables, "Reads which transaction holds the row of a silent job."
        yield write("row", purpose, self.read_locks, numbers_query(tables, None))
        for number, part in enumerate(self._profile.jobs.parts, start=1):
            purpose = f"Where none does: reads which transactions hold its rows in {part.table}."
            yield write(f"part_row_{number}", purpose, self.read_locks, numbers_query(tables, part))
        yield write(
            "holder",
            "Names the session of the oldest of these transactions.",
            "none",
            text(TRANSACTION_OWNER),
            meanings,
        )
        yield write(
            "members",
            "Takes a number apart that stands for several transactions; refused if it stands for one.",
            "none",
            text(MULTIXACT_MEMBERS),
            meanings,
        )
        yield write(
            "suspects",
            "If none of them is found: names sessions that use the table and are old enough to hold the row.",
            "none",
            text(OLDER_TRANSACTIONS),
            {**meanings, "table": repr(table)},
        )
