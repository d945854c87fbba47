"""Finding a profile by its name, and telling what is wrong with one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pydantic import ValidationError

from reaper.common.suggestions import did_you_mean
from reaper.errors import ConfigError
from reaper.profile.error_messages import problems
from reaper.profile.profile import Profile


def shipped() -> tuple[str, ...]:
    """The names of the profiles in the package."""
    folder = resources.files("reaper.profiles")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def resolve(name: str, custom: Mapping[str, Mapping[str, Any]] | None = None) -> Profile:
    """The profile of that name: the user's own before a shipped one.

    Raises ConfigError with every problem of it, each beginning with the place inside the profile.
    """
    table = _flatten(name, custom or {}, seen=())
    found = ["name: unknown name; a profile's name is that of its table"] if "name" in table else []
    try:
        profile = Profile.model_validate({**table, "name": name})
    except ValidationError as error:
        found += problems(error)
    if found:
        raise ConfigError([f"profile {name!r}: {line}" for line in found])
    return profile


def _flatten(name: str, custom: Mapping[str, Mapping[str, Any]], seen: tuple[str, ...]) -> dict[str, Any]:
    """The profile's own table over that of the one it extends."""
    if name in seen:
        raise ConfigError([f"profile {name!r} extends itself: {' -> '.join((*seen, name))}"])
    if name in custom:
        table = dict(custom[name])
        base = table.pop("extends", None)
        if base is None:
            return table
        if not isinstance(base, str):
            raise ConfigError([f"profile {name!r}: extends: expected a profile's name, not {base!r}"])
        # A profile may take a shipped one's name and extend it.
        rest = {key: value for key, value in custom.items() if key != name} if base == name else custom
        return _merge(_flatten(base, rest, seen if base == name else (*seen, name)), table)
    if name in shipped():
        text = resources.files("reaper.profiles").joinpath(f"{name}.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)
    raise ConfigError([f"unknown profile {name!r}{did_you_mean(name, {*custom, *shipped()})}"])


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], place: tuple[str, ...] = ()) -> dict[str, Any]:
    """Tables are merged where they may be, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and is_mergeable(place)
        merged[key] = _merge(merged[key], value, (*place, key)) if both else value
    return merged


def is_mergeable(place: tuple[str, ...]) -> bool:
    """Whether tables in the table at this place are merged. What a column is set to is not: half a value is none."""
    return (place[:1], place[2:]) != (("actions",), ("set",))
