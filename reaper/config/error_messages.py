"""Pydantic's validation errors in the words of the configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ValidationError

from reaper.common.suggestions import did_you_mean
from reaper.config.schema import SCALAR_SETTINGS, KeyPath, KindTable, PurgeTable, RawSettings, SourceTable, field_names

_NOT_A_TABLE = frozenset({"model_type", "mapping_type", "dict_type", "model_attributes_type"})


def problems_by_key(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """The key and the message of each error. Messages repeat an input only where its validator chose to show it."""
    for problem in error.errors(include_url=False, include_input=True):
        key = tuple(str(part) for part in problem["loc"] if part != "[key]")
        if problem["type"] == "extra_forbidden":
            yield key, _unknown_name(key, is_table=isinstance(problem["input"], dict))
        elif problem["type"] in _NOT_A_TABLE:
            yield key, "expected a table"
        else:
            yield key, problem["msg"].removeprefix("Value error, ")


def dotted(key: Sequence[str]) -> str:
    """A key with its tables, as the file would spell it."""
    return ".".join(map(_quoted_if_needed, key))


def _quoted_if_needed(key: str) -> str:
    if key and key.isascii() and key.replace("_", "").replace("-", "").isalnum():
        return key
    # A URL that was pasted in place of a name may contain a password.
    return '"…"' if "://" in key else '"{}"'.format(key.replace("\\", "\\\\").replace('"', '\\"'))


def _unknown_name(path: KeyPath, *, is_table: bool) -> str:
    *around, key = path
    valid = set(field_names(_table_at(around)))
    if f"{key}_seconds" in valid:
        return f"unknown name; did you mean '{key}_seconds'?"
    if is_table and _table_at(around) is KindTable:
        return f'unknown name; a kind with dots in its name needs quotes, such as [kinds."{around[-1]}.{key}"]'
    if key in field_names(PurgeTable).keys() - SCALAR_SETTINGS and _table_at(around) in (RawSettings, SourceTable):
        return f"unknown name here; {key} belongs in [{dotted(around) or 'sources.NAME'}.purge]"
    if around and key in field_names(SourceTable):
        return f"unknown name here; {key} belongs in [sources.NAME], or above the first [section] for all"
    if around and key in SCALAR_SETTINGS:
        return f"unknown name here; {key} is a setting of the whole daemon and belongs above the first [section]"
    return f"unknown name{did_you_mean(key, valid)}"


def _table_at(path: Sequence[str]) -> type[BaseModel]:
    match tuple(path):
        case ("kinds", _) | ("sources", _, "kinds", _):
            return KindTable
        case ("sources", _, "purge"):
            return PurgeTable
        case ("sources", _):
            return SourceTable
        case _:
            return RawSettings
