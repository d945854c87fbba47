"""What every world can do: a job system of one profile, with hands to make jobs and to look at what became of them.

Ages are seconds before the database's now. A job is named by the text of its key, as the reaper names it.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, ClassVar, Self, TypeVar

from reaper.check import Workload
from reaper.grants.facts import facts_from_database
from reaper.grants.statements import Grants, grants_for
from reaper.model import Evidence, SweepReport
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, MINUTE, PATIENCE, Heard, thresholds
from tests.support.worlds.database import Database, Session

_numbers = itertools.count()
OLD, SILENT, LATELY = 8 * HOUR, 2 * HOUR, 1 * MINUTE
"""Longer than the timeout of 6 h; longer than the stall window of 30 min; shorter than both."""


class State(Enum):
    """What became of a job."""

    RUNNING = "running"
    REAPED = "ended by the reaper"
    FINISHED = "ended by its own worker"


class PartialTransition(AssertionError):
    """Some of the rows say that the job is over, others that it is not."""


class World(ABC):
    """One job system. Its workers look whether a job is still theirs before they finish it."""

    profile: ClassVar[str]
    action: ClassVar[str] = "fail"
    """What the profile does with a stale job."""
    script: ClassVar[str]
    """The shipped file with its tables."""
    servers: ClassVar[tuple[str, ...]] = ("postgresql",)
    """Whose tables are shipped."""
    tables: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[tuple[str, str], ...]]
    """What the action does, table by table."""
    has_signs: ClassVar[bool] = True
    """Whether signs of life stand in the database."""
    start_optional: ClassVar[bool] = True
    """Whether a job may have no start of its own, and counts from something else then."""
    fenced: ClassVar[bool] = True
    """Whether a worker that comes too late finds out."""
    has_audit: ClassVar[bool] = False
    """Whether there is a place for the evidence in its tables."""
    has_message: ClassVar[bool] = True
    """Whether there is one for words."""

    def __init__(self, database: Database) -> None:
        """Looks at a database that has the tables, and changes nothing in it."""
        self.database = database
        self.hand: Session = database.session(autocommit=True)

    @classmethod
    def create(cls, database: Database) -> Self:
        """The world's tables, and whatever a job cannot be without."""
        database.create(cls.script)
        world = cls(database)
        world.prepare()
        return world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand.close()

    # --- what a job system does ------------------------------------------------------------------------------

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """What a job cannot be without."""

    @abstractmethod
    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """A running job, begun `age` seconds ago, with a sign of life `sign` seconds ago or none at all."""

    @abstractmethod
    def sign_of_life(self, job: str, session: Session) -> bool:
        """Its worker shows that it lives; False when it cannot, as the job is gone."""

    @abstractmethod
    def finish(self, job: str, session: Session) -> bool:
        """Its worker ends it; False when the worker finds that it is not its own any more, and leaves it alone."""

    @abstractmethod
    def state(self, job: str) -> State:
        """What became of it. Raises HalfDone when not all rows of the job say so."""

    def message(self, job: str) -> str:
        """Why it was ended, as the job system's own users read it."""
        raise NotImplementedError

    def audit(self, job: str) -> list[dict[str, Any]]:
        """The evidence of each time that it was reaped."""
        raise NotImplementedError

    # --- jobs of all kinds -----------------------------------------------------------------------------------

    def stale_job(self, *, start: bool = True) -> str:
        """To be ended."""
        return self.job(age=OLD, sign=SILENT if self.has_signs else None, start=start)

    def alive_job(self) -> str:
        """Past its timeout, and heard of a minute ago."""
        return self.job(age=OLD, sign=LATELY)

    def young_job(self, *, start: bool = True) -> str:
        """Silent for longer than the stall window, and within its timeout."""
        return self.job(age=SILENT, sign=None, start=start)

    def ended_job(self) -> str:
        """Old, silent, and over."""
        job = self.stale_job()
        assert self.finish(job, self.hand)
        return job

    def dump(self) -> list[str]:
        """Every column of every row."""
        return [row for table in self.tables for row in self.database.rows(self.hand, table)]

    # --- the reaper ------------------------------------------------------------------------------------------

    def source_options(self) -> SourceOptions:
        """What is particular to this world's source."""
        return SourceOptions(action=self.action)

    def grants(self, role: str, workload: Workload | None = None) -> Grants:
        """What `reaper grants` prints, as the owner asks it."""
        profile = resolve(self.profile)
        owner = Source("owner", self.database.url, profile, thresholds(), PATIENCE, self.source_options())
        with owner.connect() as connection:
            ground = facts_from_database(connection, profile, f"{role}{self.database.host}")
        return grants_for(profile, workload or Workload(self.action), ground)

    @contextmanager
    def restricted(self, *extras: str, purge: bool = False) -> Iterator[str]:
        """Meanwhile the reaper is a role that may do what `reaper grants` prints, and nothing else. Its name."""
        role = f"least_{os.getpid()}_{next(_numbers)}"
        self.database.restrict_to_role(role, self.grants(role, Workload(self.action, purge)).statements(extras))
        try:
            yield role
        finally:
            self.database.drop_role(role)

    def source(self) -> Source:
        return Source(
            "main", self.database.reaper, resolve(self.profile), thresholds(), PATIENCE, self.source_options()
        )

    def sweep(
        self, source: Source | None = None, *, heard: Heard | None = None, batch_size: int = 1000, dry_run: bool = False
    ) -> SweepReport:
        """One sweep, which trusts silence across the restart of the test's own server."""
        options = SweepOptions("test-host", batch_size, Breaker(50, 0.5), False, dry_run, lambda: False)
        return sweep(source or self.source(), DowntimeTracker(0), SourceState(), options, None, heard or Heard())

    def explain(self, *jobs: str) -> list[Evidence]:
        """What `explain` would say of them."""
        source = self.source()
        with source.connect() as connection:
            context = source.ask_probe(source.begin_evaluation(connection, DowntimeTracker(0)))
            with source.transaction(connection, read_only=True):
                return source.lookup.evidence(connection, context, [(job,) for job in jobs])


T = TypeVar("T")


def all_or_none(job: str, says: Sequence[bool]) -> bool:
    """All of it holds, or none of it. Raises HalfDone when some does."""
    if len(set(says)) > 1:
        raise PartialTransition(f"job {job}: {says}")
    return says[0]


def in_turn(*choices: T) -> Callable[[], T]:
    """One after the other, again and again."""
    taken = iter(range(10**9))
    return lambda: choices[next(taken) % len(choices)]
