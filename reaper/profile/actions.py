"""Named transitions: what becomes of a job's row, and what is written, changed and deleted with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from reaper.profile.base import Label, Match, Name, ProfileModel, TableName
from reaper.profile.conditions import Conditions
from reaper.profile.values import Next, Values, Variable, walk_values

REQUEUE_ELSE_FAIL = "requeue_else_fail"
"""What the reaper makes of `requeue`, `fail` and the attempts that are left."""


class Insert(ProfileModel):
    """One row more for each job."""

    table: Annotated[TableName, Field(alias="insert")]
    values: Values


class Update(ProfileModel):
    """The rows of `table` that match the job and fulfil `where` are changed.

    Where one gets a `next` value, `resolved_by` names the profile whose sweep moves on those whose value is taken.
    """

    table: Annotated[TableName, Field(alias="update")]
    match: Match
    where: Conditions = ()
    assign: Annotated[Values, Field(alias="set")]
    resolved_by: Label | None = None

    @model_validator(mode="after")
    def _resolves_something(self) -> Update:
        if self.resolved_by is not None and not any(isinstance(value, Next) for value in self.assign.values()):
            raise ValueError("'resolved_by' is for a value that is 'next' in a row, and none is set")
        return self


class Delete(ProfileModel):
    """The rows of `table` that match the job and fulfil `where` are deleted."""

    table: Annotated[TableName, Field(alias="delete")]
    match: Match
    where: Conditions = ()


STEPS: Mapping[str, type[ProfileModel]] = {"(insert)": Insert, "(update)": Update, "(delete)": Delete}


def _step_form(value: object) -> str | None:
    if isinstance(value, dict):
        return next((tag for tag in STEPS if tag.strip("()") in value), None)
    return next((tag for tag, form in STEPS.items() if isinstance(value, form)), None)


Step = Annotated[
    Annotated[Insert, Tag("(insert)")] | Annotated[Update, Tag("(update)")] | Annotated[Delete, Tag("(delete)")],
    Discriminator(_step_form),
]


class Action(ProfileModel):
    """A named transition: the job's row is changed (`set`) or deleted, and `also` is done in the same transaction.

    Where jobs are a log there is no row to change: the transition is an entry among `also`.
    `unique_violation` says what to do with a job whose transition some unique key does not allow: leave it as it is
    and say so, or take the action `fail` instead.
    """

    assign: Annotated[Values | None, Field(alias="set")] = None
    delete: Annotated[bool, Field(strict=True)] = False
    also: tuple[Step, ...] = ()
    unique_violation: Literal["skip", "fail"] = "skip"

    @model_validator(mode="after")
    def _one_end(self) -> Action:
        if self.assign is not None and self.delete:
            raise ValueError("a row is changed by 'set' or deleted by 'delete', not both")
        return self

    @property
    def writes_evidence(self) -> bool:
        """What a job was ended for stays in the database."""
        return any(isinstance(value, Variable) and value.name == "evidence" for value in self.values())

    def values(self) -> Iterator[Any]:
        """Every value that it writes, and all those that they are made of."""
        written = [self.assign or {}]
        written += [
            step.values if isinstance(step, Insert) else step.assign
            for step in self.also
            if not isinstance(step, Delete)
        ]
        for values in written:
            for value in values.values():
                yield from walk_values(value)


class Attempts(ProfileModel):
    """How often a job has been tried: the number in `column`, or the length of the array in it.

    No attempt is left when that is `limit`, or what stands in `limit_column`, or more.
    """

    column: Name
    array: Annotated[bool, Field(strict=True)] = False
    limit: Annotated[int | None, Field(ge=1, strict=True)] = None
    limit_column: Name | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> Attempts:
        if self.limit is None and self.limit_column is None:
            raise ValueError("expected 'limit' or 'limit_column'")
        return self
