"""Witnesses: where signs of life come from."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import model_validator

from reaper.profile.base import Label, Match, Name, Names, ProfileModel, TableName, exactly_one
from reaper.profile.conditions import Conditions


class Events(ProfileModel):
    """Rows of `table` were written at their `at` columns, the newest of which counts.

    They belong to the job whose key their `job` columns hold, or whose columns they `match`.
    """

    table: TableName
    job: Names | None = None
    match: Match | None = None
    at: Names
    where: Conditions = ()

    @model_validator(mode="after")
    def _one_relation(self) -> Events:
        exactly_one(self, "job", "match")
        return self

    def matching(self, key: Names) -> Mapping[str, str]:
        """Their column = the job's column."""
        return self.match or dict(zip(self.job or (), key, strict=True))


class Children(ProfileModel):
    """Jobs of the same table whose `parent` columns hold the job's key.

    A running child is a sign of life now; any child is one at each of its `at` columns.
    """

    parent: Names
    at: Names


class CeleryTask(ProfileModel):
    """The job is a task of Celery: its id stands in the column `task`, and the queue it waits in `queue`.

    Without `queue`, it may wait in any queue that the source names.
    """

    task: Name
    queue: Name | None = None


class Witness(ProfileModel):
    """One witness: where signs of life come from. `witness` is its name in evidence and logs.

    `column` holds the moment of the last sign; until the moment in `deadline` the job is alive.
    """

    witness: Label
    events: Events | None = None
    children: Children | None = None
    column: Name | None = None
    deadline: Name | None = None
    celery: CeleryTask | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Witness:
        exactly_one(self, "events", "children", "column", "deadline", "celery")
        return self
