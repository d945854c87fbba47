"""Pydantic's findings in the words of the file: one line each, with the nearest name."""

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
from reaper.profile.conditions import NOW, SCALAR, Now
from reaper.profile.profile import Profile
from reaper.profile.values import FORMS, LITERAL

_ARMS = frozenset({*FORMS, *STEPS, LITERAL, NOW, SCALAR, "[key]"})
_NOUNS = {
    **dict.fromkeys(("key", "started", "at", "job", "parent"), "name"),
    **dict.fromkeys(("set", "values", "match"), "column"),
    "where": "condition",
    "json": "member",
}

Place = tuple[int | str, ...]


def problems(error: ValidationError) -> Iterator[str]:
    """One line for each thing that is wrong, beginning with the place inside the profile."""
    yield from dict.fromkeys(line for problem in error.errors() for line in _lines(problem))


def _lines(problem: Mapping[str, Any]) -> Iterator[str]:
    place: Place = problem["loc"]
    kind, found = problem["type"], problem.get("ctx", {}).get("error")
    if isinstance(found, InconsistentProfile):
        yield from found.problems
    elif kind == "union_tag_not_found":
        yield from _headless(place, problem["input"], heads(problem["ctx"]["discriminator"]))
    elif kind == "extra_forbidden":
        yield _unknown(place)
    elif kind in ("too_short", "tuple_too_short") and len(problem["input"]) >= problem["ctx"]["min_length"]:
        return  # what it holds is wrong, and told of
    else:
        yield _at(place, _said(problem))


def _headless(place: Place, value: object, heads: Sequence[str]) -> Iterator[str]:
    """A table that ought to begin with one of several names, and has none of them."""
    if not isinstance(value, dict):
        yield _at(place, f"expected a table with one of {listed(heads)}, not {_shown(value)}")
        return
    meant = {name: nearest(str(name), heads) for name in value}
    if not any(meant.values()):
        yield _at(place, one_of(heads, []))
    for name, head in meant.items():
        if head is not None:
            yield _at((*place, name), f"unknown name; did you mean {head!r}?")


def _unknown(place: Place) -> str:
    *above, last = place
    for tags in (FORMS, STEPS):
        others = [tag.strip("()") for tag in tags]
        if above and above[-1] in tags and last in others:
            return _at(tuple(above), one_of(others, [str(above[-1]).strip("()"), str(last)]))
    return _at(place, f"unknown name{did_you_mean(str(last), names_at(tuple(above)))}")


def _said(problem: Mapping[str, Any]) -> str:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "missing"
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", context["expected"])
        near = nearest(value, allowed) if isinstance(value, str) else None
        return f"expected {listed(allowed)}, not {_shown(value)}" + (f"; did you mean {near!r}?" if near else "")
    if kind == "too_short":
        return _too_short(problem["loc"], context["min_length"], of_columns=isinstance(value, dict))
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind](context)}, not {_shown(value)}"
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
    "greater_than": lambda context: f"more than {context['gt']:g}",
}


def _too_short(place: Place, least: int, *, of_columns: bool) -> str:
    last = str(place[-1])
    noun = "value" if "log" in place else _NOUNS.get(last, "value")
    number = f"one {noun}" if least == 1 else f"{least} {noun}s"
    return f"expected a {'table' if of_columns else 'list'} of at least {number}"


def _at(place: Place, message: str) -> str:
    where = ".".join(_key(part) for part in place if part not in _ARMS)
    return f"{where}: {message}" if where else message


def _key(part: int | str) -> str:
    """As TOML would have it."""
    text = str(part)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


_TAGGED: Mapping[str, type[BaseModel]] = {**FORMS, **STEPS, NOW: Now}


def heads(discriminator: str) -> list[str]:
    """The names one of which says what a table is, by the function that looks for them."""
    return [tag.strip("()") for tag in (STEPS if "step" in discriminator else FORMS)]


def names_at(place: tuple[int | str, ...]) -> set[str]:
    """What may stand in the table at this place, where pydantic's own words are among the names."""
    kinds: list[type[BaseModel]] = [Profile]
    for part in place:
        if part in _TAGGED:
            kinds = [_TAGGED[str(part)]]
        elif not isinstance(part, int):
            # A name that is no field's is one of the user's own.
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
    """The parts of a profile that a type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)
