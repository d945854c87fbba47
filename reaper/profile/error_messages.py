"""Pydantic's validation errors of a profile in the words of the file: one line each, with the nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from reaper.common.suggestions import did_you_mean, nearest
from reaper.errors import InconsistentProfile
from reaper.profile.actions import STEPS
from reaper.profile.base import listed, one_of
from reaper.profile.conditions import NOW, OTHER_COLUMN, SCALAR, Now, OtherColumn
from reaper.profile.profile import Profile
from reaper.profile.values import FORMS, LITERAL

_ARMS = frozenset({*FORMS, *STEPS, LITERAL, NOW, OTHER_COLUMN, SCALAR, "[key]"})
_NOUNS = {
    **dict.fromkeys(("key", "started", "at", "job", "parent"), "name"),
    **dict.fromkeys(("set", "values", "match"), "column"),
    **dict.fromkeys(("where", "any_of"), "condition"),
    "json": "member",
}

Location = tuple[int | str, ...]


def problems(error: ValidationError) -> Iterator[str]:
    """One line for each thing that is wrong, beginning with the key in the profile."""
    yield from dict.fromkeys(line for problem in error.errors() for line in _lines(problem))


def _lines(problem: Mapping[str, Any]) -> Iterator[str]:
    location: Location = problem["loc"]
    kind, error = problem["type"], problem.get("ctx", {}).get("error")
    if isinstance(error, InconsistentProfile):
        yield from error.problems
    elif kind == "union_tag_not_found":
        yield from _missing_head(location, problem["input"], heads(problem["ctx"]["discriminator"]))
    elif kind == "extra_forbidden":
        yield _unknown(location)
    elif kind in ("too_short", "tuple_too_short") and len(problem["input"]) >= problem["ctx"]["min_length"]:
        return  # its members are wrong, and have lines of their own
    else:
        yield _at(location, _message(problem))


def _missing_head(location: Location, value: object, heads: Sequence[str]) -> Iterator[str]:
    """A table that must have one of several keys (`heads`), which say what it is, and has none of them."""
    if not isinstance(value, dict):
        yield _at(location, f"expected a table with one of {listed(heads)}, not {_quoted(value)}")
        return
    meant = {name: nearest(str(name), heads) for name in value}
    if not any(meant.values()):
        yield _at(location, one_of(heads, []))
    for name, head in meant.items():
        if head is not None:
            yield _at((*location, name), f"unknown name; did you mean {head!r}?")


def _unknown(location: Location) -> str:
    *above, last = location
    for tags in (FORMS, STEPS):
        others = [tag.strip("()") for tag in tags]
        if above and above[-1] in tags and last in others:
            return _at(tuple(above), one_of(others, [str(above[-1]).strip("()"), str(last)]))
    return _at(location, f"unknown name{did_you_mean(str(last), names_at(tuple(above)))}")


def _message(problem: Mapping[str, Any]) -> str:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "missing"
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", context["expected"])
        near = nearest(value, allowed) if isinstance(value, str) else None
        return f"expected {listed(allowed)}, not {_quoted(value)}" + (f"; did you mean {near!r}?" if near else "")
    if kind == "too_short":
        return _too_short(problem["loc"], context["min_length"], of_columns=isinstance(value, dict))
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind](context)}, not {_quoted(value)}"
    return str(problem["msg"])


_EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda _: "a text",
    "string_too_short": lambda _: "at least one character",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "a table",
    "model_type": lambda _: "a table",
    "bool_type": lambda _: "true or false",
    "int_type": lambda _: "a whole number",
    "greater_than_equal": lambda context: f"{context['ge']} or more",
    "less_than_equal": lambda context: f"{context['le']:g} or less",
    "greater_than": lambda context: f"more than {context['gt']:g}",
}


def _too_short(location: Location, least: int, *, of_columns: bool) -> str:
    last = str(location[-1])
    noun = "value" if "log" in location else _NOUNS.get(last, "value")
    number = f"one {noun}" if least == 1 else f"{least} {noun}s"
    return f"expected a {'table' if of_columns else 'list'} of at least {number}"


def _at(location: Location, message: str) -> str:
    where = ".".join(_key(part) for part in location if part not in _ARMS)
    return f"{where}: {message}" if where else message


def _key(part: int | str) -> str:
    """A part of a key as TOML spells it."""
    text = str(part)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


_TAGGED: Mapping[str, type[BaseModel]] = {**FORMS, **STEPS, NOW: Now, OTHER_COLUMN: OtherColumn}


def heads(discriminator: str) -> list[str]:
    """The keys one of which says what a table is: those of steps or those of values."""
    return [tag.strip("()") for tag in (STEPS if "step" in discriminator else FORMS)]


def names_at(location: tuple[int | str, ...]) -> set[str]:
    """The valid keys of the table at this location, which has pydantic's union tags among its names."""
    kinds: list[type[BaseModel]] = [Profile]
    for part in location:
        if part in _TAGGED:
            kinds = [_TAGGED[str(part)]]
        elif not isinstance(part, int):
            # A name that is not a field is the user's own, such as that of an action.
            kinds = [inner for kind in kinds for inner in _models(_field(kind, part))] or kinds
    return {name for kind in kinds for name in _names(kind)}


def _names(model: type[BaseModel]) -> set[str]:
    names = {field.alias or name for name, field in model.model_fields.items()}
    return (names - {"name"}) | {"extends"} if model is Profile else names


def _field(model: type[BaseModel], spelled: str) -> Any:
    for name, field in model.model_fields.items():
        if spelled == (field.alias or name):
            return field.annotation
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this type may contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)
