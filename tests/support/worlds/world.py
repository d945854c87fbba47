"""Base class of the worlds: the job system of one profile, with methods to make jobs and to read their state.

Ages are seconds before the database's now. A job is identified by the text of its key, as in the reaper.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self

from reaper.check import Workload
from reaper.grants.catalog_facts import facts_from_database
from reaper.grants.statements import Grants, grants_for
from reaper.model import Evidence, SweepReport
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, MINUTE, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.database import Database, Session

_numbers = itertools.count()
_SCHEMAS = Path(__file__).parents[1] / "schemas"
OLD, SILENT, LATELY = 8 * HOUR, 2 * HOUR, 1 * MINUTE
"""Longer than the timeout of 6 h; longer than the stall window of 30 min; shorter than both."""


class State(Enum):
    """State of a job."""

    RUNNING = "running"
    REAPED = "ended by the reaper"
    FINISHED = "ended by its own worker"


def new_role() -> str:
    """A name that no other role has."""
    return f"least_{os.getpid()}_{next(_numbers)}"


class PartialTransition(AssertionError):
    """Some rows of a job say that it has ended, others that it has not."""


class World(ABC):
    """One job system. Its workers check that a job is still theirs before they finish it."""

    profile: ClassVar[str]
    action: ClassVar[str] = "fail"
    """What the profile does with a stale job."""
    script: ClassVar[str]
    """Stem of the shipped file that creates its tables."""
    tables_of: ClassVar[str] = ""
    """Stem of the file in `tests/support/schemas` that creates its tables instead, named with a version."""
    public: ClassVar[bool] = False
    """Whether this is one of the public job systems of docs/systems. Without --thorough few tests run there."""
    servers: ClassVar[tuple[str, ...]] = ("postgresql",)
    """The database servers for which such a file is shipped."""
    tables: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[tuple[str, str], ...]]
    """The writes of the action: table and operation."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Those of the tables, and their sequences, that the reaper writes only if it may."""
    has_signs: ClassVar[bool] = True
    """Whether signs of life are in the database."""
    signs_wait: ClassVar[bool] = True
    """Whether a sign of life waits for the lock on its job. Without a foreign key, one in another row does not."""
    start_optional: ClassVar[bool] = True
    """Whether a job may have no start time; another time then counts as its start."""
    fenced: ClassVar[bool] = True
    """Whether a worker that finishes after the reap notices it."""
    has_audit: ClassVar[bool] = False
    """Whether the tables hold the evidence of a reap."""
    has_message: ClassVar[bool] = True
    """Whether the tables hold an error message."""
    keeps_finished: ClassVar[bool] = True
    """Whether the row of a job stays when its worker finishes it."""

    def __init__(self, database: Database) -> None:
        """For a database that already has the tables. Changes nothing."""
        self.database = database
        self.session: Session = database.session(autocommit=True)

    @classmethod
    def create(cls, database: Database) -> Self:
        """Create the tables and the rows that every job refers to."""
        if cls.tables_of:
            with database.session(autocommit=True) as session:
                session.do((_SCHEMAS / f"{cls.tables_of}.sql").read_text())
        else:
            database.create(cls.script)
        world = cls(database)
        world.prepare()
        return world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    # --- the job system --------------------------------------------------------------------------------------

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """Insert the rows that every job refers to."""

    @abstractmethod
    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """Make a running job that started `age` seconds ago, with a sign of life `sign` seconds ago (None: no sign)."""

    @abstractmethod
    def sign_of_life(self, job: str, session: Session) -> bool:
        """The worker writes a sign of life. Returns False when it cannot, because the job is gone."""

    @abstractmethod
    def finish(self, job: str, session: Session) -> bool:
        """The worker finishes the job. Returns False, and changes nothing, when the job is no longer its own."""

    @abstractmethod
    def state(self, job: str) -> State:
        """The state of the job. Raises PartialTransition when its rows contradict each other."""

    def message(self, job: str) -> str:
        """The error message that the reap wrote into the job system's tables."""
        raise NotImplementedError

    def audit(self, job: str) -> list[dict[str, Any]]:
        """The evidence of each reap of the job."""
        raise NotImplementedError

    # --- typical jobs ----------------------------------------------------------------------------------------

    def stale_job(self, *, start: bool = True) -> str:
        """A job that a sweep must reap."""
        return self.job(age=OLD, sign=SILENT if self.has_signs else None, start=start)

    def alive_job(self) -> str:
        """A job past its timeout, with a sign of life a minute ago."""
        return self.job(age=OLD, sign=LATELY)

    def young_job(self, *, start: bool = True) -> str:
        """A job that is silent for longer than the stall window, but within its timeout."""
        return self.job(age=SILENT, sign=None, start=start)

    def ended_job(self) -> str:
        """An old, silent job that its worker has finished."""
        job = self.stale_job()
        assert self.finish(job, self.session)
        return job

    def dump(self) -> list[str]:
        """Every column of every row, as text."""
        return [row for table in self.tables for row in self.database.rows(self.session, table)]

    # --- the reaper ------------------------------------------------------------------------------------------

    def source_options(self) -> SourceOptions:
        """The options of this world's source."""
        return SourceOptions(action=self.action)

    def grants(self, role: str, workload: Workload | None = None) -> Grants:
        """What `reaper grants` prints when the owner of the database runs it."""
        profile = resolve(self.profile)
        owner = Source("owner", self.database.url, profile, thresholds(), PATIENCE, self.source_options())
        with owner.connect() as connection:
            facts = facts_from_database(connection, profile, f"{role}{self.database.host}")
        return grants_for(profile, workload or Workload(self.action), facts)

    @contextmanager
    def restricted(self, *extras: str, purge: bool = False) -> Iterator[str]:
        """During the block the reaper connects as a role with the grants of `reaper grants` only. Yields its name."""
        role = new_role()
        with self.restricted_to(role, self.grants(role, Workload(self.action, purge)).statements(extras)):
            yield role

    @contextmanager
    def restricted_to(self, role: str, granted: Iterable[str]) -> Iterator[None]:
        """During the block the reaper connects as this role, which these statements create and which is dropped."""
        self.database.restrict_to_role(role, granted)
        try:
            yield
        finally:
            self.database.drop_role(role)

    def source(self) -> Source:
        return Source(
            "main", self.database.reaper, resolve(self.profile), thresholds(), PATIENCE, self.source_options()
        )

    def sweep(
        self,
        source: Source | None = None,
        *,
        recorder: SweepRecorder | None = None,
        batch_size: int = 1000,
        dry_run: bool = False,
    ) -> SweepReport:
        """Run one sweep. Silence across the start of the test's own server counts."""
        options = SweepOptions("test-host", batch_size, Breaker(50, 0.5), dry_run, lambda: False)
        return sweep(
            source or self.source(), DowntimeTracker(0), SourceState(), options, None, recorder or SweepRecorder()
        )

    def explain(self, *jobs: str) -> list[Evidence]:
        """The evidence that `reaper explain` shows for these jobs."""
        source = self.source()
        with source.connect() as connection:
            context = source.ask_probe(source.begin_evaluation(connection, DowntimeTracker(0)))
            with source.transaction(connection, read_only=True):
                return source.lookup.evidence(connection, context, [(job,) for job in jobs])


def all_or_none(job: str, facts: Sequence[bool]) -> bool:
    """Whether all facts hold. Raises PartialTransition when only some hold."""
    if len(set(facts)) > 1:
        raise PartialTransition(f"job {job}: {facts}")
    return facts[0]
