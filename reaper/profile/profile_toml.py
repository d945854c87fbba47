"""The TOML lines that correct a profile in the configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reaper.common.toml_text import toml_key, toml_value
from reaper.profile import Profile, shipped
from reaper.profile.corrections import Corrections, corrected_profile
from reaper.profile.loading import is_mergeable


def override(profile: Profile, corrections: Corrections, name: str | None = None) -> str:
    """TOML for the configuration file: the differences, or the whole profile where a key has to be removed.

    `name` is that of the new profile; without it, the new one has the old one's.
    """
    old = profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"name"})
    new = corrected_profile(profile, old, corrections)
    header = f"[profiles.{toml_key(name or profile.name)}]"
    if _removes(old, new):
        # `extends` can replace keys of a profile, but not remove one.
        return "\n".join((f"{header}  # the whole profile, without 'extends'", *_lines(new)))
    if profile.name in shipped():
        return "\n".join((header, f"extends = {toml_value(profile.name)}", *_lines(_difference(old, new))))
    return "\n".join((f"{header}  # replace these lines of it", *_lines(_difference(old, new))))


def _removes(old: Mapping[str, Any], new: Mapping[str, Any], place: tuple[str, ...] = ()) -> bool:
    return any(
        name not in new or (_merged(value, new[name], place) and _removes(value, new[name], (*place, name)))
        for name, value in old.items()
    )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], place: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys whose values differ. Tables that `extends` merges are compared key by key, other values as a whole."""
    changed: dict[str, Any] = {}
    for name, value in new.items():
        before = old.get(name)
        if _merged(before, value, place):
            if deeper := _difference(old[name], value, (*place, name)):
                changed[name] = deeper
        elif toml_value(before) != toml_value(value):
            changed[name] = value
    return changed


def _merged(old: Any, new: Any, place: tuple[str, ...]) -> bool:
    return isinstance(old, Mapping) and isinstance(new, Mapping) and is_mergeable(place)


def _lines(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        place = f"{path}{toml_key(name)}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{place}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield "\n".join((f"{place} = [", *(f"    {toml_value(item)}," for item in value), "]"))
        else:
            yield f"{place} = {toml_value(value)}"
