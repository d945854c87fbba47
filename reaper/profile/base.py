"""What every part of a profile has in common: it is data, and a name that nobody knows is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LONGEST = 63
"""The bytes of the longest name that PostgreSQL keeps whole; a longer one is cut, and means another thing."""


def name_of_a_column(text: str) -> str:
    """The same text. Raises ValueError for one that no database has as a name."""
    length = len(text.encode())
    if length > LONGEST:
        raise ValueError(f"is {length} bytes long; a name in the database has no more than {LONGEST}")
    return without_nul(text)


def without_nul(text: str) -> str:
    """The same text. Raises ValueError for one that no database stores."""
    if "\0" in text:
        raise ValueError("a NUL character cannot stand in a database")
    return text


def _name_of_a_table(text: str) -> str:
    schema, dot, bare = text.partition(".")
    if dot and not (schema and bare):
        raise ValueError("expected the name of a table, or that of its schema, a dot and the table's")
    for name in (schema, bare):
        name_of_a_column(name)
    return text


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, (bool, int, float)):
        return value
    raise ValueError("expected a text, a number, true or false")


def _in_a_list(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)):
        return (value,) if isinstance(value, str) else value
    raise ValueError("expected a name, or a list of names")


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{name!r} is named twice")
    return names


Name = Annotated[str, Field(min_length=1), AfterValidator(name_of_a_column)]
"""A column's name."""

TableName = Annotated[str, Field(min_length=1), AfterValidator(_name_of_a_table)]
"""A table's name, with its schema and a dot before it or without."""

Label = Annotated[str, Field(min_length=1), AfterValidator(without_nul)]
"""What something is called by the reaper alone."""

Scalar = bool | int | float | str

Plain = Annotated[Scalar, BeforeValidator(_scalar)]
"""A value that stands in the file as it is."""

Names = Annotated[tuple[Name, ...], BeforeValidator(_in_a_list), Field(min_length=1), AfterValidator(_each_once)]
"""One name, or a list of them."""

Match = Annotated[Mapping[Name, Name], Field(min_length=1)]
"""Which rows of another table belong to a job: their column = the job's column."""


class ProfileModel(BaseModel):
    """Unknown names are refused, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def exactly_one(part: ProfileModel, *names: str) -> None:
    """Raises ValueError unless one of these fields is given, and one alone."""
    spelled = {name: type(part).model_fields[name].alias or name for name in names}
    given = [spelled[name] for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(one_of(list(spelled.values()), given))


def one_of(names: Sequence[str], given: Sequence[str]) -> str:
    """What is said when there is not exactly one of several names."""
    found = f"not {' and '.join(map(repr, given))}" if given else "and none is given"
    return f"expected one of {listed(names)}, {found}"


def listed(names: Iterable[object]) -> str:
    """`'a', 'b' or 'c'`"""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last
