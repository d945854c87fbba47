"""Pydantic's findings in words for the person who wrote the value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ValidationError

from reaper.common.suggestions import did_you_mean
from reaper.config.schema import SCALAR_SETTINGS, KindTable, PurgeTable, RawSettings, SourceTable, field_names
from reaper.config.toml_lines import KeyPath

_NOT_A_TABLE = frozenset({"model_type", "mapping_type", "dict_type", "model_attributes_type"})


def findings(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Each finding: where it is, and what to say. No input is repeated but what the checks chose to show."""
    for finding in error.errors(include_url=False, include_input=True):
        place = tuple(str(part) for part in finding["loc"] if part != "[key]")
        if finding["type"] == "extra_forbidden":
            yield place, _unknown(place, is_table=isinstance(finding["input"], dict))
        elif finding["type"] in _NOT_A_TABLE:
            yield place, "expected a table"
        else:
            yield place, finding["msg"].removeprefix("Value error, ")


def dotted(place: Sequence[str]) -> str:
    """A place as the file would spell it."""
    return ".".join(map(_spelled, place))


def _spelled(key: str) -> str:
    if key and key.isascii() and key.replace("_", "").replace("-", "").isalnum():
        return key
    # An address pasted where a name belongs may hold a password.
    return '"…"' if "://" in key else '"{}"'.format(key.replace("\\", "\\\\").replace('"', '\\"'))


def _unknown(place: KeyPath, *, is_table: bool) -> str:
    *around, key = place
    known = set(field_names(_table_at(around)))
    if f"{key}_seconds" in known:
        return f"unknown name; did you mean '{key}_seconds'?"
    if is_table and _table_at(around) is KindTable:
        return f'unknown name; a kind with dots in its name needs quotes, such as [kinds."{around[-1]}.{key}"]'
    if key in field_names(PurgeTable).keys() - SCALAR_SETTINGS and _table_at(around) in (RawSettings, SourceTable):
        return f"unknown name here; {key} stands in [{dotted(around) or 'sources.NAME'}.purge]"
    if around and key in field_names(SourceTable):
        return f"unknown name here; {key} stands in [sources.NAME], or above the first [section] for all"
    if around and key in SCALAR_SETTINGS:
        return f"unknown name here; {key} is a setting of the whole daemon and stands above the first [section]"
    return f"unknown name{did_you_mean(key, known)}"


def _table_at(place: Sequence[str]) -> type[BaseModel]:
    match tuple(place):
        case ("kinds", _) | ("sources", _, "kinds", _):
            return KindTable
        case ("sources", _, "purge"):
            return PurgeTable
        case ("sources", _):
            return SourceTable
        case _:
            return RawSettings
