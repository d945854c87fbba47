"""Witnesses: where the signs of life of a job come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from reaper.profile.base import Label, Match, Name, Names, ProfileModel, TableName, exactly_one
from reaper.profile.conditions import Conditions
from reaper.profile.sql_template import checked
from reaper.profile.values import Seconds


class Events(ProfileModel):
    """Rows of `table`, such as events. The newest of their `at` columns says when a row was written.

    A row belongs to the job whose key is in its `job` columns, or whose columns it matches (`match`). Where the rows
    are jobs of another profile, `key` are their key columns, in the order of that profile's `jobs.key`.
    """

    table: TableName
    job: Names | None = None
    match: Match | None = None
    at: Names
    where: Conditions = ()
    key: Names | None = None

    @model_validator(mode="after")
    def _one_relation(self) -> Events:
        exactly_one(self, "job", "match")
        return self

    def matching(self, key: Names) -> Mapping[str, str]:
        """The columns of `table`, and the job's columns that they are equal to."""
        return self.match or dict(zip(self.job or (), key, strict=True))


class Children(ProfileModel):
    """Jobs of the same table whose `parent` columns have the job's key.

    A running child is a sign of life now. Every child was one at each moment in its `at` columns.
    """

    parent: Names
    at: Names


class WorkerWitness(ProfileModel):
    """The worker that holds the job: the row of `table` that matches it, and its heartbeat `at`.

    `name` are columns of that row that people know the worker by, such as its host and process. Without them, and where
    the row is gone, the job's own columns in `match` name it.

    A worker whose row the reaper has seen unchanged, or missing, for `gone_after` seconds is gone: sources with
    `worker_lost` end its jobs then. `match` must have an id or a start time: a name that the next worker gets again
    would be the same worker.
    """

    table: TableName
    match: Match
    at: Name
    name: Names | None = None
    where: Conditions = ()
    gone_after: Annotated[Seconds | None, Field(ge=1)] = None

    @property
    def rows(self) -> Events:
        """The worker's row, as a row whose moment is a sign of life."""
        return Events(table=self.table, match=self.match, at=(self.at,), where=self.where)


class CeleryTask(ProfileModel):
    """The job is a Celery task. The column `task` has its id, and the column `queue` the queue in which it waits.

    Without `queue`, the task may wait in any of the source's queues.
    """

    task: Name
    queue: Name | None = None


class Witness(ProfileModel):
    """One source of signs of life. `witness` is its name in evidence and logs.

    `column` has the moment of the last sign of life. Until the moment in `deadline` the job is alive. `sql` is an
    expression for the moment of the last sign of life, with columns of the job's row in braces; NULL is none.
    `ended_by_reaper`: whether a moment that the reaper itself wrote, when it ended the job of that row, is a sign of
    life too; None: as `reaper_is_silent` says.
    """

    witness: Label
    events: Events | None = None
    children: Children | None = None
    column: Name | None = None
    deadline: Name | None = None
    worker: WorkerWitness | None = None
    celery: CeleryTask | None = None
    sql: Annotated[str, Field(min_length=1), AfterValidator(checked)] | None = None
    ended_by_reaper: Literal["silent", "sign"] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Witness:
        exactly_one(self, "events", "children", "column", "deadline", "worker", "celery", "sql")
        return self

    @property
    def rows(self) -> Events | None:
        """The rows of a table whose moments are its signs of life; None for other witnesses."""
        return self.worker.rows if self.worker else self.events

    @property
    def rows_key(self) -> str:
        """The key in the file that says which rows these are."""
        return "worker" if self.worker else "events"

    @property
    def reaper_is_silent(self) -> bool:
        """What the reaper wrote at the end of a row's job is no sign of life.

        Without `ended_by_reaper`, that is so for rows that are jobs of another profile. A child's end is a sign: its
        parent needs time to react.
        """
        if self.ended_by_reaper is not None:
            return self.ended_by_reaper == "silent"
        return self.events is not None and self.events.key is not None
