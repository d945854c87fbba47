"""Conditions on a job's row and on rows of other tables that belong to it; what running means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from reaper.profile.base import Label, Match, Name, Plain, ProfileModel, TableName, exactly_one
from reaper.profile.sql_template import checked
from reaper.profile.values import Seconds


class Now(ProfileModel):
    """The database's clock."""

    name: Annotated[Literal["now"], Field(alias="is")]


class OtherColumn(ProfileModel):
    """Another column of the same row."""

    column: Name


SCALAR, NOW, OTHER_COLUMN = "(scalar)", "(now)", "(other column)"


def _bound_form(value: object) -> str:
    if isinstance(value, OtherColumn) or (isinstance(value, dict) and "column" in value):
        return OTHER_COLUMN
    return NOW if isinstance(value, (dict, Now)) else SCALAR


Bound = Annotated[
    Annotated[Now, Tag(NOW)] | Annotated[OtherColumn, Tag(OTHER_COLUMN)] | Annotated[Plain, Tag(SCALAR)],
    Discriminator(_bound_form),
]
"""The value that a column is compared with."""


NULL = {"is": "null"}
"""NULL among the values of a list, as it is written."""


def _with_null_among_values(given: Any) -> Any:
    """The same, where NULL is named among the values, with `or_null` in its place."""
    if not isinstance(given, Mapping):
        return given
    for key, is_met in (("in", True), ("not_in", False)):
        values = given.get(key)
        if isinstance(values, list | tuple) and NULL in values:
            if "or_null" in given:
                raise ValueError("NULL is named twice: among the values, and by 'or_null'")
            given = {**given, key: [value for value in values if value != NULL], "or_null": is_met}
    return given


class Condition(ProfileModel):
    """`column` and one of: `in`, `not_in`, `is = "null" | "not null"`, `less_than`, `greater_than`; or `sql` alone; or
    `any_of` alone, which is met where one of these conditions is.

    `or_null`: whether NULL meets `in` or `not_in`. None is as false, but it was not said.
    In `sql`, `{name}` is a column of the row, and `{{` is a brace. `otherwise` says in words, about a job that the
    condition does not hold for, what is the case instead.
    """

    column: Name | None = None
    values: Annotated[tuple[Plain, ...] | None, Field(alias="in", min_length=1)] = None
    not_in: Annotated[tuple[Plain, ...] | None, Field(min_length=1)] = None
    null: Annotated[Literal["null", "not null"] | None, Field(alias="is")] = None
    less_than: Bound | None = None
    greater_than: Bound | None = None
    sql: Annotated[str, Field(min_length=1), AfterValidator(checked)] | None = None
    otherwise: Label | None = None
    or_null: Annotated[bool | None, Field(strict=True)] = None
    any_of: Annotated[tuple[Condition, ...] | None, Field(min_length=2)] = None

    @model_validator(mode="before")
    @classmethod
    def _null_among_values(cls, given: Any) -> Any:
        return _with_null_among_values(given)

    @model_validator(mode="after")
    def _one_question(self) -> Condition:
        exactly_one(self, "values", "not_in", "null", "less_than", "greater_than", "sql", "any_of")
        if self.or_null is not None and self.values is None and self.not_in is None:
            raise ValueError("'or_null' requires 'in' or 'not_in'")
        if (self.column is None) != (self.sql is not None or self.any_of is not None):
            raise ValueError("expected 'column' and one question about it, or 'sql' alone, or 'any_of' alone")
        if any(part.any_of for part in self.any_of or ()):
            raise ValueError("'any_of' cannot stand inside 'any_of': list all of the conditions in one")
        return self

    @property
    def bound(self) -> Bound | None:
        """What the column is less or greater than; None for another question."""
        return self.less_than if self.less_than is not None else self.greater_than


def single_conditions(condition: Condition) -> Iterator[tuple[str, Condition]]:
    """The condition itself, or those of its `any_of`: each with what it adds to the key in the file."""
    if condition.any_of is None:
        yield "", condition
    for n, part in enumerate(condition.any_of or ()):
        yield f".any_of.{n}", part


Conditions = tuple[Condition, ...]


class Related(ProfileModel):
    """Rows of `table` that belong to a job: those that match it, and meet every condition of `where`."""

    table: TableName
    match: Match
    where: Conditions = ()


class Running(ProfileModel):
    """A job is running while all that is given holds: `column` has one of the values `in`, every condition of `where`
    is met, there is a row for each of `exists`, and no row for any of `missing`.
    """

    column: Name | None = None
    values: Annotated[tuple[Plain, ...] | None, Field(alias="in", min_length=1)] = None
    or_null: Annotated[bool | None, Field(strict=True)] = None
    where: Conditions = ()
    exists: tuple[Related, ...] = ()
    missing: tuple[Related, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_among_values(cls, given: Any) -> Any:
        return _with_null_among_values(given)

    @model_validator(mode="after")
    def _has_condition(self) -> Running:
        if (self.column is None) != (self.values is None):
            raise ValueError("'column' and 'in' go together")
        if self.or_null is not None and self.values is None:
            raise ValueError("'or_null' requires 'in'")
        if self.column is None and not self.where and not self.exists:
            raise ValueError("expected 'column' and 'in', 'where' or 'exists', which say what running means")
        return self

    @property
    def conditions(self) -> Conditions:
        """All conditions on the job's own row."""
        if self.column is None or self.values is None:
            return self.where
        null = {} if self.or_null is None else {"or_null": self.or_null}
        return (Condition.model_validate({"column": self.column, "in": self.values, **null}), *self.where)

    @property
    def related(self) -> tuple[Related, ...]:
        """All conditions on rows of other tables."""
        return self.exists + self.missing


class StartLost(ProfileModel):
    """Jobs without an entry that starts or ends them: their start was lost. They run while an entry of theirs is not
    older than `since`, by the start columns.
    """

    since: Annotated[Seconds, Field(gt=0)]


class Log(ProfileModel):
    """Jobs that exist only as entries of a log: a job's row is its first entry of a type in `started`, by `order`.

    The job is running until there is an entry of a type in `ended`. `lock` is the lock that keeps a late entry from
    being written between the second check and the commit: see `reaper.source.reap`. With `start_lost`, jobs without a
    start are found too, apart from the others.
    """

    type: Name
    started: Annotated[tuple[Plain, ...], Field(min_length=1)]
    ended: Annotated[tuple[Plain, ...], Field(min_length=1)]
    order: Name
    lock: Literal["table", "job"] = "table"
    start_lost: StartLost | None = None

    @model_validator(mode="after")
    def _are_disjoint(self) -> Log:
        both = set(self.started) & set(self.ended)
        if both:
            raise ValueError(f"{', '.join(sorted(map(repr, both)))} cannot both start and end a job")
        return self


class StartLostLog(Log):
    """The same log, read for the jobs whose start was lost: a job's row is its first entry of any type.

    No file has it: `Profile.with_start_lost` makes it.
    """

    since_seconds: float
