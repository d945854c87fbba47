"""The base of the models of a profile, and the types of names: unknown keys and impossible names are errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LONGEST_NAME = 63
"""The bytes of the longest name in PostgreSQL, which cuts longer names: they would mean another object."""


def column_name(text: str) -> str:
    """The same text. Raises ValueError for a text that cannot be a name in a database."""
    length = len(text.encode())
    if length > LONGEST_NAME:
        raise ValueError(f"is {length} bytes long; a name in the database has at most {LONGEST_NAME}")
    return without_nul(text)


def without_nul(text: str) -> str:
    """The same text. Raises ValueError for a text that a database cannot store."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored in a database")
    return text


def _table_name(text: str) -> str:
    schema, dot, bare = text.partition(".")
    if dot and not (schema and bare):
        raise ValueError("expected TABLE or SCHEMA.TABLE")
    for name in (schema, bare):
        column_name(name)
    return text


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, (bool, int, float)):
        return value
    raise ValueError("expected a text, a number, true or false")


def _as_list(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)):
        return (value,) if isinstance(value, str) else value
    raise ValueError("expected a name, or a list of names")


def without_duplicates(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names. Raises ValueError for one that is listed twice."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{name!r} is listed twice")
    return names


Name = Annotated[str, Field(min_length=1), AfterValidator(column_name)]
"""The name of a column."""

TableName = Annotated[str, Field(min_length=1), AfterValidator(_table_name)]
"""The name of a table, TABLE or SCHEMA.TABLE."""

Label = Annotated[str, Field(min_length=1), AfterValidator(without_nul)]
"""A name that only the reaper uses, such as that of a witness or an action."""

Scalar = bool | int | float | str

Plain = Annotated[Scalar, BeforeValidator(_scalar)]
"""A literal value in the file."""

Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list), Field(min_length=1), AfterValidator(without_duplicates)]
"""One name, or a list of them."""

Match = Annotated[Mapping[Name, Name], Field(min_length=1)]
"""Which rows of another table belong to a job: that table's column = the job's column."""


class ProfileModel(BaseModel):
    """A part of a profile: unknown keys are refused, and it is frozen after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def exactly_one(part: ProfileModel, *names: str) -> None:
    """Raises ValueError unless exactly one of these fields is given."""
    spelled = {name: type(part).model_fields[name].alias or name for name in names}
    given = [spelled[name] for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(one_of(list(spelled.values()), given))


def one_of(names: Sequence[str], given: Sequence[str]) -> str:
    """The message for none or several of the names, of which exactly one is expected."""
    instead = f"not {' and '.join(map(repr, given))}" if given else "and none is given"
    return f"expected one of {listed(names)}, {instead}"


def listed(names: Iterable[object]) -> str:
    """`'a', 'b' or 'c'`"""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last
