"""Loads a profile by its name, from the configuration file or the package, and reports what is wrong with it."""

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
    """The profile of that name. A profile in `custom`, the user's own, has precedence over a shipped one.

    Raises ConfigError with every problem of the profile, each beginning with its key in the profile.
    """
    table = _flatten(name, custom or {}, seen=())
    wrong = ["name: unknown name; a profile is named by its table, [profiles.NAME]"] if "name" in table else []
    try:
        profile = Profile.model_validate({**table, "name": name})
    except ValidationError as error:
        wrong += problems(error)
    if wrong:
        raise ConfigError([f"profile {name!r}: {line}" for line in wrong])
    return profile.extending(_lineage(name, custom or {}))


def _lineage(name: str, custom: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The name, and those of the profiles that it extends. Ends, since `_flatten` has refused circles."""
    base = custom[name].get("extends") if name in custom else None
    if base is None:
        return (name,)
    rest = {key: value for key, value in custom.items() if key != name}
    return (name, *_lineage(base, rest))


def _flatten(name: str, custom: Mapping[str, Mapping[str, Any]], seen: tuple[str, ...]) -> dict[str, Any]:
    """The profile's table, merged into the table of the profile that it extends."""
    if name in seen:
        raise ConfigError([f"profile {name!r} extends itself: {' -> '.join((*seen, name))}"])
    if name in custom:
        table = dict(custom[name])
        base = table.pop("extends", None)
        if base is None:
            return table
        if not isinstance(base, str):
            raise ConfigError([f"profile {name!r}: extends: expected a profile's name, not {base!r}"])
        # A profile may have the name of the shipped one that it extends.
        rest = {key: value for key, value in custom.items() if key != name} if base == name else custom
        return _merge(_flatten(base, rest, seen if base == name else (*seen, name)), table)
    if name in shipped():
        text = resources.files("reaper.profiles").joinpath(f"{name}.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)
    raise ConfigError([f"unknown profile {name!r}{did_you_mean(name, {*custom, *shipped()})}"])


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], table: tuple[str, ...] = ()) -> dict[str, Any]:
    """The tables merged where `is_mergeable` says so; any other value of `over` replaces that of `base`."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and is_mergeable(table)
        merged[key] = _merge(merged[key], value, (*table, key)) if both else value
    return merged


def is_mergeable(key: tuple[str, ...]) -> bool:
    """Whether tables inside the table at this key are merged. The value of a column is not: half a value is invalid."""
    return (key[:1], key[2:]) != (("actions",), ("set",))
