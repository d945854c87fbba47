"""What is PostgreSQL's own: how a transaction is opened, which locks a batch takes, how a row's holder is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, Text, cast, column, select, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.database.lease import ttl_for
from reaper.database.postgresql import IDLE_MS, LOCK_MS, READ_CLOCK, TRANSACTION_SETTINGS
from reaper.database.postgresql.lease import lease_statement
from reaper.database.postgresql.lock_holder import LOG_WRITER, MULTIXACT_MEMBERS, OLDER_TRANSACTIONS, TRANSACTION_OWNER
from reaper.database.postgresql.row_security import has_policies_query, own_restrictions_query
from reaper.profile.related_tables import liveness_tables
from reaper.source import Claim, Source
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter, changed_elsewhere, written


class PostgreSQL:
    """The statements of a source on PostgreSQL."""

    def __init__(self, source: Source) -> None:
        self.hand = StatementWriter(source, PGDialect_psycopg(paramstyle="named"))  # type: ignore[no-untyped-call]
        self._profile = source.profile
        self.reads = self._reading(sorted(self._profile.tables))

    @staticmethod
    def _reading(tables: list[str]) -> str:
        return f"ACCESS SHARE on {', '.join(tables)}: in the way of DROP, TRUNCATE and ALTER TABLE only"

    def opening(self, terms: ListingOptions) -> Iterator[Statement]:
        write, schema = self.hand.written, self.hand.source.rule.tables
        limits = {"statement": round(terms.statement_timeout * 1000), "lock": LOCK_MS, "idle": IDLE_MS}
        yield write("read_only", "Opens every transaction that only reads.", "none", text("SET TRANSACTION READ ONLY"))
        yield write(
            "begin",
            "Opens every transaction, after that: UTC, and limits in milliseconds for this transaction alone.",
            "none",
            TRANSACTION_SETTINGS,
            {name: repr(f"{limit}") for name, limit in limits.items()},
        )
        yield write(
            "contact", "Asks for the clock that judges, and whether anything can be written.", "none", READ_CLOCK
        )
        if signs := liveness_tables(self._profile):
            purpose = "Asks whether a table with signs of life has policies, or is a view."
            yield write("policies", purpose, "none", has_policies_query(signs))
            purpose = "Only then: asks whether row-level security may hide signs of life. If so, nothing is judged."
            yield write("signs", purpose, "none", own_restrictions_query(signs))
        yield write(
            "lease",
            "Lets one of several daemons sweep: who has not renewed it for three intervals (30 s at least) loses it.",
            "one advisory lock",
            lease_statement(schema, self.hand.dialect, ttl_for(terms.interval)),
        )

    def ending(self, claim: Claim, instead: Claim | None) -> Iterator[Statement]:
        """`instead` is for a job whose transition a unique key does not allow."""
        yield from self._locking(claim)
        yield self._end(
            claim, "end", "Judges the locked once more; ends what is still stale, and writes what goes with it."
        )
        if instead is not None:
            yield self._end(
                instead,
                "instead",
                "The same, in a transaction of its own, for a job whose transition a unique key does not allow.",
            )
        yield self.hand.written(
            "skipped", "Tells held jobs from those that have ended.", self.reads, claim.still_running
        )

    def _locking(self, claim: Claim) -> Iterator[Statement]:
        write, jobs = self.hand.written, self._profile.jobs
        rows = f"ROW SHARE on {jobs.table}; FOR UPDATE on the rows of the batch, until its commit"
        entries = f"an advisory lock for each job, until the commit; {self.reads}"
        purpose = "Begins a batch. Whoever holds a {} is alive, and is not waited for."
        what = "row" if jobs.log is None else "job's lock"
        yield write("lock", purpose.format(what), rows if jobs.log is None else entries, claim.lock_rows)
        for number, (part, (there, lock)) in enumerate(zip(jobs.parts, claim.related_row_locks, strict=True), start=1):
            yield write(
                f"part_{number}",
                f"Locks the rows of {part.table} that belong to the jobs: a job is ended with all of them or not.",
                f"ROW SHARE on {part.table}; FOR UPDATE on these rows, until the commit",
                lock,
            )
            yield write(
                f"whole_{number}",
                f"Finds all rows of {part.table} that belong to them: one that is not locked is held by somebody.",
                self._reading(sorted({part.table, jobs.table})),
                there,
            )
        names = (
            ("patience", "Limits how long the next statement waits, in milliseconds; then the batch is left.", "none"),
            (
                "close",
                "Keeps entries from being written to the log from the last look to the commit; others may read.",
                f"SHARE ROW EXCLUSIVE on {jobs.table}, until the commit: it waits for whoever is writing, and writers "
                "wait for it",
            ),
        )
        for (name, purpose, locks), statement in zip(names, claim.log_lock.statements, strict=False):
            yield write(name, purpose, locks, statement)

    def _end(self, claim: Claim, name: str, purpose: str) -> Statement:
        [statement] = claim.transition.statements.values()
        actions = [arm.action for arm in claim.transition.branches]
        locks = f"ROW EXCLUSIVE on {', '.join(written(self._profile, actions))}"
        others = changed_elsewhere(self._profile, actions)
        if self._profile.jobs.log is None:
            locks += "; the jobs' rows are those that have just been locked"
        locks += f"; the rows of {', '.join(others)} that it changes, which it waits for" if others else ""
        if len(actions) > 1:
            purpose += " Jobs that have attempts left are requeued, the others fail."
        return self.hand.written(name, purpose, locks, statement)

    def naming(self) -> Iterator[Statement]:
        """Who holds the rows of silent jobs."""
        write = self.hand.written
        table = self.hand.dialect.identifier_preparer.format_table(self.hand.source.rule.tables.jobs)
        if self._profile.jobs.log is not None:
            yield write("writer", "Names who has held the log the longest.", "none", LOG_WRITER, {"table": repr(table)})
            return
        names = {"numbers": "transactions, an array", "number": "the transaction, or several, that the row names"}
        yield write("row", "Asks the row of a silent job who holds it.", self.reads, self._row())
        yield write(
            "holder", "Names the one of these transactions that is the oldest.", "none", TRANSACTION_OWNER, names
        )
        yield write(
            "members",
            "Takes a number apart that stands for several; refused where it does not.",
            "none",
            MULTIXACT_MEMBERS,
            names,
        )
        yield write(
            "suspects",
            "When none of them is found: who works on the table, and is old enough to be the holder.",
            "none",
            OLDER_TRANSACTIONS,
            {**names, "table": repr(table)},
        )

    def _row(self) -> Select[Any]:
        schema = self.hand.source.rule.tables
        mine = schema.key_in_batch(schema.jobs)
        return select(cast(column("xmax"), Text)).select_from(schema.jobs).where(mine)
