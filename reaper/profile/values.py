"""The values that a transition writes: literals, the reaper's variables, columns, and expressions of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, e, isfinite, log
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from reaper.common.durations import parse_duration
from reaper.common.suggestions import did_you_mean
from reaper.profile.base import Label, Match, Name, Plain, ProfileModel, TableName, exactly_one, listed
from reaper.profile.sql_template import checked, columns_in


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    # To Python a bool is a number.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
        raise ValueError("expected a duration such as 6h, 30m, 1h30m, 45s or 21600 (seconds)")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A duration: a number of seconds, or "30m"."""


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError("expected a number")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]

VariableName = Literal["now", "reason", "message", "evidence", "null", "age", "silence", "source", "sweep_id", "host"]


TEXTS = ("message", "source", "sweep_id", "host")
DURATIONS = ("age", "silence")


class Growth(ProfileModel):
    """Seconds that grow with the number in `column` of the job's row: its `power`, or `base` to the power of it.

    NULL and less than 0 count as 0.
    """

    column: Name
    power: Annotated[Number | None, Field(ge=0.1, le=100)] = None
    base: Annotated[Number | None, Field(gt=1, le=1000)] = None
    at_most: Annotated[Seconds, Field(gt=0)]

    @model_validator(mode="after")
    def _one_growth(self) -> Growth:
        exactly_one(self, "power", "base")
        return self

    @property
    def largest_number(self) -> float:
        """From this number on, the growth alone is `at_most` or more. Larger ones would overflow."""
        if self.power is not None:
            return float(ceil(self.at_most ** (1 / self.power)))
        return float(max(0, ceil(log(self.at_most) / log(self.base or e))))


class Variable(ProfileModel):
    """A value that the reaper knows at the transition. `now` may be later: by `plus` seconds, and by those of `grows`,
    together no more than its `at_most`; at random, up to the share `jitter` less than that.

    `most`: of a text so many characters at the most, of a duration so many seconds.
    """

    name: Annotated[VariableName, Field(alias="is")]
    plus: Seconds | None = None
    grows: Growth | None = None
    jitter: Annotated[Number | None, Field(gt=0, le=1)] = None
    most: Annotated[int | None, Field(ge=1, strict=True)] = None

    @model_validator(mode="after")
    def _plus_needs_now(self) -> Variable:
        for key in ("plus", "grows", "jitter"):
            if getattr(self, key) is not None and self.name != "now":
                raise ValueError(f"only 'now' can have a '{key}'")
        if self.jitter is not None and not self.is_later:
            raise ValueError("'jitter' is a share of 'plus' and 'grows', and neither is given")
        if self.most is not None and self.name not in (*TEXTS, *DURATIONS):
            raise ValueError(f"only {listed((*TEXTS, *DURATIONS))} can have a 'most'")
        return self

    @property
    def is_later(self) -> bool:
        """Whether the moment is a later one than that of the transition."""
        return bool(self.plus) or self.grows is not None


class FromColumn(ProfileModel):
    """The value of a column of the job's own row, as it was before the transition.

    `plus` is added to it (NULL counts as 0); `append` becomes a new last member of the JSON array in it.
    """

    column: Name
    plus: Number | None = None
    append: Value | None = None

    @model_validator(mode="after")
    def _one_change(self) -> FromColumn:
        if self.plus is not None and self.append is not None:
            raise ValueError("a column is changed by 'plus' or by 'append', not by both")
        return self


class First(ProfileModel):
    """The first of several values that is not NULL."""

    first: Annotated[tuple[Value, ...], Field(min_length=2)]


class Json(ProfileModel):
    """A JSON object."""

    members: Annotated[Mapping[Label, Value], Field(alias="json", min_length=1)]


class NextValue(ProfileModel):
    """A series of numbers, `step` apart, or of timestamps, `every` so many seconds.

    The existing values are in `column` of the rows that match. `every_column` of the updated row has the seconds.
    """

    table: TableName
    column: Name
    match: Match
    step: Annotated[int | None, Field(ge=1, strict=True)] = None
    every: Annotated[Seconds | None, Field(gt=0)] = None
    every_column: Name | None = None

    @model_validator(mode="after")
    def _one_step(self) -> NextValue:
        exactly_one(self, "step", "every", "every_column")
        return self


class Next(ProfileModel):
    """One step beyond every existing value of a series.

    In a new row: the newest value plus one step; where none exists, the step itself or, for timestamps, now. In an
    updated row: its own value, advanced by whole steps until no existing value is equal to it or ahead of it.
    """

    series: Annotated[NextValue, Field(alias="next")]


_IN_SQL = "is."
"""What comes before the name of a variable in the braces of `sql`."""
VARIABLES_IN_SQL = ("now", "reason", "message", "evidence", "age", "silence", "source", "sweep_id", "host")


def _with_known_variables(template: str) -> str:
    for name in columns_in(template):
        if name.startswith(_IN_SQL) and (variable := name.removeprefix(_IN_SQL)) not in VARIABLES_IN_SQL:
            raise ValueError(f"{{{name}}} is no value of the reaper{did_you_mean(variable, VARIABLES_IN_SQL)}")
    return template


class Sql(ProfileModel):
    """An SQL expression. `{name}` is a column of the job's row, `{is.message}` a value of the reaper, `{{` a brace."""

    sql: Annotated[str, Field(min_length=1), AfterValidator(checked), AfterValidator(_with_known_variables)]

    @property
    def columns(self) -> list[str]:
        """The columns in it."""
        return [name for name in columns_in(self.sql) if not name.startswith(_IN_SQL)]

    @property
    def variables(self) -> dict[str, Variable]:
        """The values of the reaper's in it, by what stands in the braces."""
        names = (name for name in columns_in(self.sql) if name.startswith(_IN_SQL))
        return {name: Variable.model_validate({"is": name.removeprefix(_IN_SQL)}) for name in names}


_FORMS: Mapping[str, type[ProfileModel]] = {
    "is": Variable,
    "column": FromColumn,
    "first": First,
    "json": Json,
    "next": Next,
    "sql": Sql,
}
LITERAL = "(literal)"
FORMS = {f"({key})": form for key, form in _FORMS.items()}


def _form(value: object) -> str | None:
    if isinstance(value, dict):
        return next((f"({key})" for key in _FORMS if key in value), None)
    return next((tag for tag, form in FORMS.items() if isinstance(value, form)), LITERAL)


Value = Annotated[
    Annotated[Variable, Tag("(is)")]
    | Annotated[FromColumn, Tag("(column)")]
    | Annotated[First, Tag("(first)")]
    | Annotated[Json, Tag("(json)")]
    | Annotated[Next, Tag("(next)")]
    | Annotated[Sql, Tag("(sql)")]
    | Annotated[Plain, Tag(LITERAL)],
    Discriminator(_form),
]

Values = Annotated[Mapping[Name, Value], Field(min_length=1)]

for _part in (FromColumn, First, Json):
    _part.model_rebuild()


def is_copy(value: object) -> bool:
    """Whether a value is that of a column of the job's row, unchanged."""
    return isinstance(value, FromColumn) and value.plus is None and value.append is None


def is_variable(value: object, name: VariableName) -> bool:
    """Whether a value is the reaper's variable of that name."""
    return isinstance(value, Variable) and value.name == name


def is_moment_of_transition(value: object) -> bool:
    """Whether a value is the moment of the transition itself, and not a later one."""
    return isinstance(value, Variable) and value.name == "now" and not value.is_later


def walk_values(value: Any) -> Iterator[Any]:
    """A value, and every value inside it."""
    yield value
    if isinstance(value, First):
        parts: tuple[Any, ...] = value.first
    elif isinstance(value, Json):
        parts = tuple(value.members.values())
    else:
        parts = (value.append,) if isinstance(value, FromColumn) and value.append is not None else ()
    for part in parts:
        yield from walk_values(part)
