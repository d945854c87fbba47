"""Which names may stand where in a profile, as the file spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from reaper.profile.actions import STEPS
from reaper.profile.conditions import NOW, Now
from reaper.profile.values import FORMS
from reaper.profile.vocabulary import Profile

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
