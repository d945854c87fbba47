"""What is MariaDB's own: how a transaction is opened, which locks a batch takes, how the holder of a row is found.

A statement that only reads takes no lock on rows. Whatever a transaction has touched, it keeps from being altered by a
metadata lock until it ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from reaper.database.lease import ttl_for
from reaper.database.mariadb import OLDEST_VERSION, READ_CLOCK, SESSION_SETTINGS, start_transaction
from reaper.database.mariadb.lease import lease_statements
from reaper.database.mariadb.lock_holder import LOCKING_TRANSACTIONS
from reaper.database.timeouts import IDLE_SECONDS, LOCK_SECONDS
from reaper.source import Claim, Source
from reaper.source.transition.multi_statement import Branch, MultiStatementTransition
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter, changed_elsewhere

_WHOSE = {True: " for those that have attempts left", False: " for those that have none left", None: ""}


class _Dialect(MariaDBDialect, MySQLDialect_pymysql):
    """Knows of the server's version what it would learn when it connects."""

    supports_statement_cache = True
    server_version_info = OLDEST_VERSION
    _support_float_cast = True


class MariaDB:
    """The statements of a source on MariaDB."""

    def __init__(self, source: Source) -> None:
        self.hand = StatementWriter(source, _Dialect(paramstyle="named"))
        self._profile = source.profile
        self.reads = self._reading(sorted(self._profile.tables))

    @staticmethod
    def _reading(tables: list[str]) -> str:
        return f"metadata locks on {', '.join(tables)}, in the way of DROP, TRUNCATE and ALTER TABLE only; none on rows"

    def opening(self, terms: ListingOptions) -> Iterator[Statement]:
        write = self.hand.written
        limits = {"statement": terms.statement_timeout, "lock": LOCK_SECONDS, "idle": IDLE_SECONDS}
        yield write(
            "settings",
            "Begins every transaction: UTC, READ COMMITTED, limits in seconds. MariaDB sets them for sessions only.",
            "none",
            SESSION_SETTINGS,
            {name: f"{limit:g}" for name, limit in limits.items()},
        )
        yield write("read_only", "Opens every transaction that only reads.", "none", start_transaction(read_only=True))
        yield write("begin", "Opens every other transaction.", "none", start_transaction(read_only=False))
        yield write(
            "contact", "Asks for the clock that judges, and whether anything can be written.", "none", READ_CLOCK
        )
        timeouts, lease = lease_statements(self.hand.source.rule.tables, ttl_for(terms.interval))
        yield write(
            "lease_patience",
            "On the lease's own connection: how long it lasts without being renewed, in seconds.",
            "none",
            timeouts,
        )
        yield write(
            "lease",
            "Lets one of several daemons sweep: who has not renewed it for three intervals (30 s at least) loses it.",
            "one user-level lock (GET_LOCK), as long as its connection lasts",
            lease,
        )

    def ending(self, claim: Claim, instead: Claim | None) -> Iterator[Statement]:
        """`instead` is for a job whose transition a unique key does not allow."""
        yield from self._locking(claim)
        yield from self._steps(claim, "")
        if instead is not None:
            yield from self._steps(instead, "instead_")
        yield self.hand.written(
            "skipped", "Tells held jobs from those that have ended.", self.reads, claim.still_running
        )

    def _locking(self, claim: Claim) -> Iterator[Statement]:
        write, jobs = self.hand.written, self._profile.jobs
        yield write(
            "lock",
            "Begins a batch. Whoever holds a row is alive, and is not waited for.",
            f"InnoDB's exclusive record locks on the rows of the batch in {jobs.table} and on the entries of the index "
            f"that finds them, until the commit; a metadata lock on {jobs.table}",
            claim.lock_rows,
        )
        for number, (part, (there, lock)) in enumerate(zip(jobs.parts, claim.related_row_locks, strict=True), start=1):
            yield write(
                f"part_{number}",
                f"Locks the rows of {part.table} that belong to the jobs: a job is ended with all of them or not.",
                f"exclusive record locks on these rows, until the commit; a metadata lock on {part.table}",
                lock,
            )
            yield write(
                f"whole_{number}",
                f"Finds all rows of {part.table} that belong to them: one that is not locked is held by somebody.",
                self._reading(sorted({part.table, jobs.table})),
                there,
            )

    def _steps(self, claim: Claim, prefix: str) -> Iterator[Statement]:
        ending, write = claim.transition, self.hand.written
        if not isinstance(ending, MultiStatementTransition):
            raise TypeError("MariaDB changes nothing inside a query")
        found = ending.statements
        again = (
            "For a job whose transition a unique key does not allow, in a transaction of its own: " if prefix else ""
        )
        purpose = f"{again}Judges the locked once more, and gathers what their ends are made of."
        yield write(f"{prefix}judge", purpose, self.reads, found["judge"])
        for number, arm in enumerate(ending.branches):
            for name, purpose in self._parts_of(number, arm):
                yield write(
                    prefix + name, f"{purpose}{_WHOSE[arm.attempts_left]}.", self._locks(name, arm), found[name]
                )
        purpose = "Makes sure that none of them still runs: a trigger may have put it back."
        yield write(f"{prefix}undone", purpose, self.reads, found["undone"])

    @staticmethod
    def _parts_of(number: int, arm: Branch) -> Iterator[tuple[str, str]]:
        """The statements of a transition by their names, in the order in which they are run."""
        steps = [
            (f"also_{number}_{n}", f"Writes {step.table} with it, job by job") for n, step in enumerate(arm.action.also)
        ]
        for n in arm.before_transition:
            yield steps[n]
        yield f"transition_{number}", "Makes the transition, job by job"
        yield from (step for n, step in enumerate(steps) if n not in arm.before_transition)

    def _locks(self, name: str, arm: Branch) -> str:
        if name.startswith("transition"):
            return "the rows are those that have just been locked; exclusive record locks where their indexes change"
        step = arm.action.also[int(name.rpartition("_")[2])]
        own = f"exclusive record locks on the rows of {step.table} that it writes, and a metadata lock on it"
        waits = "; it waits for whoever holds them" if changed_elsewhere(self._profile, [arm.action]) else ""
        return f"{own}; shared ones on rows that they refer to{waits}"

    def naming(self) -> Iterator[Statement]:
        """Who holds the rows of silent jobs."""
        yield self.hand.written(
            "holder",
            "Names the only transaction in this database that holds rows; needs the privilege PROCESS.",
            "none",
            LOCKING_TRANSACTIONS,
        )
