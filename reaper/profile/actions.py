"""Actions: the named transitions of a job's row, and the inserts, updates and deletes in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from reaper.profile.base import Label, Match, Name, ProfileModel, Scalar, TableName, exactly_one, without_duplicates
from reaper.profile.conditions import Conditions
from reaper.profile.values import Next, Sql, Values, is_copy, is_variable, walk_values

REQUEUE_ELSE_FAIL = "requeue_else_fail"
"""The action that the reaper makes itself: `requeue` for jobs with attempts left, `fail` for the others."""


ColumnSet = Annotated[tuple[Name, ...], AfterValidator(without_duplicates)]
"""Columns of one table, each once."""


class Insert(ProfileModel):
    """One new row for each job that meets `when`.

    An `optional` row is written only where the table exists with these columns and the role may insert into them. With
    `unless_there`, a row is written only where none has the same values in these columns.
    """

    table: Annotated[TableName, Field(alias="insert")]
    when: Conditions = ()
    values: Values
    optional: Annotated[bool, Field(strict=True)] = False
    unless_there: ColumnSet = ()

    @model_validator(mode="after")
    def _compares_values_known_before(self) -> Insert:
        for name in self.unless_there:
            if name not in self.values:
                raise ValueError(f"'unless_there' compares {name!r}, to which 'values' gives no value")
            if not isinstance(value := self.values[name], Scalar) and not is_copy(value):
                raise ValueError(
                    f"'unless_there' compares {name!r}, whose value is not known before: expected a literal or "
                    "{ column = ... } in 'values'"
                )
        return self


class Update(ProfileModel):
    """Change the rows of `table` that match the job and meet `where`, for each job that meets `when`.

    With a `next` value, `resolved_by` names the profile whose sweep advances rows whose next value exists already.
    """

    table: Annotated[TableName, Field(alias="update")]
    when: Conditions = ()
    match: Match
    where: Conditions = ()
    assign: Annotated[Values, Field(alias="set")]
    resolved_by: Label | None = None

    @model_validator(mode="after")
    def _resolves_a_next_value(self) -> Update:
        if self.resolved_by is not None and not any(isinstance(value, Next) for value in self.assign.values()):
            raise ValueError("'resolved_by' requires a 'next' value in 'set'")
        return self


class Delete(ProfileModel):
    """Delete the rows of `table` that match the job and meet `where`, for each job that meets `when`.

    The log keeps the columns `keep` of the rows that an action deletes.
    """

    table: Annotated[TableName, Field(alias="delete")]
    when: Conditions = ()
    match: Match
    where: Conditions = ()
    keep: ColumnSet = ()


STEPS: Mapping[str, type[ProfileModel]] = {"(insert)": Insert, "(update)": Update, "(delete)": Delete}


def _step_form(value: object) -> str | None:
    if isinstance(value, dict):
        return next((tag for tag in STEPS if tag.strip("()") in value), None)
    return next((tag for tag, form in STEPS.items() if isinstance(value, form)), None)


Step = Annotated[
    Annotated[Insert, Tag("(insert)")] | Annotated[Update, Tag("(update)")] | Annotated[Delete, Tag("(delete)")],
    Discriminator(_step_form),
]


def is_conditional(step: Step) -> bool:
    """Whether there may be jobs for which the step does nothing, because of their row or of one that is there."""
    return bool(step.when) or (isinstance(step, Insert) and bool(step.unless_there))


class Action(ProfileModel):
    """A named transition: the job's row is changed (`set`) or deleted, and `also` happens in the same transaction.

    A log has no row to change: there the transition is an insert in `also`. `unique_violation` says what to do with a
    job whose transition would violate a unique key: leave the job and report it, or take the action `fail` instead.
    The log keeps the columns `keep` of a row that is deleted.
    """

    assign: Annotated[Values | None, Field(alias="set")] = None
    delete: Annotated[bool, Field(strict=True)] = False
    keep: ColumnSet = ()
    also: tuple[Step, ...] = ()
    unique_violation: Literal["skip", "fail"] = "skip"

    @model_validator(mode="after")
    def _set_or_delete(self) -> Action:
        if self.assign is not None and self.delete:
            raise ValueError("a row is changed by 'set' or deleted by 'delete', not both")
        if self.keep and not self.delete:
            raise ValueError("'keep' requires 'delete = true': only columns of a deleted row are kept")
        return self

    @property
    def writes_evidence(self) -> bool:
        """Whether the action writes the evidence for every job, so that the database says why a job was ended."""
        certain = list(self._values(step for step in self.also if not is_conditional(step)))
        in_sql = (part for value in certain if isinstance(value, Sql) for part in value.variables.values())
        return any(is_variable(value, "evidence") for value in (*certain, *in_sql))

    def values(self) -> Iterator[Any]:
        """Every value that the action writes, and every value inside them."""
        return self._values(self.also)

    def _values(self, steps: Iterable[Step]) -> Iterator[Any]:
        written = [self.assign or {}]
        written += [
            step.values if isinstance(step, Insert) else step.assign for step in steps if not isinstance(step, Delete)
        ]
        for values in written:
            for value in values.values():
                yield from walk_values(value)


class Attempts(ProfileModel):
    """How often a job has been tried: the number in `column`, or the length of the array in it; or one more than the
    number of its retries, in `retries_column`.

    No attempt is left when the number has reached `limit`, or the value of `limit_column`. With `null_is_no_limit`, a
    job without a value there may be tried for ever.
    """

    column: Name | None = None
    retries_column: Name | None = None
    array: Annotated[bool, Field(strict=True)] = False
    limit: Annotated[int | None, Field(ge=1, strict=True)] = None
    limit_column: Name | None = None
    null_is_no_limit: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _has_limit(self) -> Attempts:
        exactly_one(self, "column", "retries_column")
        if self.array and self.column is None:
            raise ValueError("'array' requires 'column': the number of retries is a number")
        if self.limit is None and self.limit_column is None:
            raise ValueError("expected 'limit' or 'limit_column'")
        if self.null_is_no_limit and (self.limit_column is None or self.limit is not None):
            raise ValueError(
                "'null_is_no_limit' requires 'limit_column' and goes without 'limit', which would apply to NULL"
            )
        return self

    @property
    def counter(self) -> str:
        """The column that says how often."""
        return self.column or self.retries_column or ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns."""
        return (self.counter, *([self.limit_column] if self.limit_column else []))
