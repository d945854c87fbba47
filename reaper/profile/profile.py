"""A profile as a whole: the job, its signs of life, its limits and its transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reaper.model import TimestampFormat
from reaper.profile import validation
from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Attempts, Delete
from reaper.profile.base import Label, Name, Names, Plain, ProfileModel, TableName, exactly_one
from reaper.profile.columns import columns, columns_copied_by
from reaper.profile.conditions import Conditions, Log, Related, Running
from reaper.profile.witnesses import CeleryTask, Witness


class Jobs(ProfileModel):
    """Where jobs stand. `started` lists columns, best first: the first that is not NULL counts.

    Columns of `claim` (a worker's id, a lock token) must not change between the survey and the lock. Rows of `parts`
    belong to a job, and are locked with it: it is ended with all of them or not at all.
    """

    table: TableName
    key: Names
    kind: Name | None = None
    queue: Name | None = None
    status: Name | None = None
    started: Names
    claim: tuple[Name, ...] = ()
    running: Running | None = None
    log: Log | None = None
    parts: tuple[Related, ...] = ()

    @model_validator(mode="after")
    def _row_or_log(self) -> Jobs:
        exactly_one(self, "running", "log")
        return self

    @property
    def state(self) -> str | None:
        """The column whose values are a job's states."""
        return (self.running.column if self.running else None) or self.status


class TimeoutColumn(ProfileModel):
    """A timeout of the row's own, in `unit`; NULL leaves it to the kind, the source and the default."""

    column: Name
    unit: Literal["ms", "s", "m", "h"] = "s"

    @property
    def seconds(self) -> float:
        """One unit, in seconds."""
        return {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[self.unit]


class Limits(ProfileModel):
    """Thresholds that stand in the job's own row."""

    timeout: TimeoutColumn


class PurgeRules(ProfileModel):
    """Which rows of jobs are finished (`where`), since when (`at`), and what is deleted with them (`also`).

    A row is kept while there is a row for any of `needed`.
    """

    where: Annotated[Conditions, Field(min_length=1)]
    at: Names
    needed: tuple[Related, ...] = ()
    also: tuple[Delete, ...] = ()


class Fence(ProfileModel):
    """What may become of a reaped job behind a fence: set to one of the states `again`, it waits to be started anew.

    They are values of the column of its state.
    """

    again: tuple[Plain, ...] = ()


class Profile(ProfileModel):
    """How one job system is read and told to stop."""

    name: str
    description: str = ""
    time: TimestampFormat = TimestampFormat.TIMESTAMPTZ
    times: Mapping[TableName, TimestampFormat] = {}
    jobs: Jobs
    alive: tuple[Witness, ...] = ()
    limits: Limits | None = None
    attempts: Attempts | None = None
    actions: Mapping[Label, Action]
    purge: PurgeRules | None = None
    fence: Fence | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        validation.check(self)
        return self

    @property
    def needs_broker(self) -> bool:
        """Whether a witness asks Celery's broker."""
        return self.task is not None

    @property
    def task(self) -> CeleryTask | None:
        """How a job is known to Celery."""
        return next((alive.celery for alive in self.alive if alive.celery), None)

    def branches(self, choice: str) -> tuple[tuple[bool | None, Action], ...]:
        """The transitions that one of `choices` comes down to.

        Each with whether it is for jobs that have attempts left (True), that have none (False), or for all (None).
        """
        if choice in self.actions:
            return ((None, self.actions[choice]),)
        return ((True, self.actions["requeue"]), (False, self.actions["fail"]))

    @property
    def action_names(self) -> tuple[str, ...]:
        """Everything that can be done with a stale job."""
        composed = self.attempts is not None and "requeue" in self.actions
        return (*self.actions, *([REQUEUE_ELSE_FAIL] if composed else []))

    def time_of(self, table: str) -> TimestampFormat:
        """How moments are stored in a table."""
        return self.times.get(table, self.time)

    @property
    def tables(self) -> frozenset[str]:
        """Every table that the profile names."""
        return frozenset(self.columns())

    def row_columns(self) -> frozenset[str]:
        """Columns of a job's row that a transition needs, as they were before it."""
        read = {name for action in self.actions.values() for name in columns_copied_by(action)}
        if self.attempts:
            read.update(name for name in (self.attempts.column, self.attempts.limit_column) if name)
        if task := self.task:
            read.add(task.task)
        return frozenset(read)

    def columns(self) -> dict[str, set[str]]:
        """Every column that the profile names, by table."""
        return columns(self)
