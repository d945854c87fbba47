"""The lines of configuration that correct a profile's names and values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reaper.profile import Profile, shipped


@dataclass(slots=True)
class Corrections:
    """What should stand in a profile instead of what does; everything is keyed by the names that stand there."""

    tables: dict[str, str] = field(default_factory=dict)
    columns: dict[tuple[str, str], str] = field(default_factory=dict)
    values: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tables or self.columns or self.values)

    def column(self, table: str, name: str) -> str:
        return self.columns.get((table, name), name)

    def value(self, table: str, column: str, value: Any) -> Any:
        return self.values.get((table, column, value), value) if isinstance(value, str) else value


def override(profile: Profile, corrections: Corrections) -> str:
    """TOML for the configuration file: the differences, or the whole profile where a name must go."""
    old = profile.model_dump(by_alias=True, exclude_unset=True, exclude={"name"})
    new = _corrected(profile, old, corrections)
    header = f"[profiles.{_key(profile.name)}]"
    if _removes(old, new):
        # What extends a profile can replace its names, not take one away.
        return "\n".join((f"{header}  # the whole profile, without 'extends'", *_lines(new)))
    if profile.name in shipped():
        return "\n".join((header, f"extends = {_toml(profile.name)}", *_lines(_difference(old, new))))
    return "\n".join((f"{header}  # replace these lines of it", *_lines(_difference(old, new))))


def _corrected(profile: Profile, old: Mapping[str, Any], to: Corrections) -> dict[str, Any]:
    table = profile.jobs.table
    running = profile.jobs.running
    jobs = {name: _column_names(to, table, value) for name, value in old["jobs"].items() if name != "running"}
    jobs["table"] = to.tables.get(table, table)
    jobs["running"] = {
        "column": to.column(table, running.column),
        "in": [to.value(table, running.column, value) for value in running.values],
    }
    actions = {name: _corrected_action(table, action, to) for name, action in old["actions"].items()}
    alive = [_corrected_witness(table, witness, to) for witness in old.get("alive", ())]
    return {**old, "jobs": jobs, "actions": actions, **({"alive": alive} if alive else {})}


def _column_names(to: Corrections, table: str, names: Any) -> Any:
    return to.column(table, names) if isinstance(names, str) else [to.column(table, name) for name in names]


def _corrected_witness(jobs: str, witness: Mapping[str, Any], to: Corrections) -> dict[str, Any]:
    new = dict(witness)
    if events := witness.get("events"):
        table = events["table"]
        new["events"] = {name: _column_names(to, table, value) for name, value in events.items()}
        new["events"]["table"] = to.tables.get(table, table)
    if children := witness.get("children"):
        new["children"] = {name: _column_names(to, jobs, value) for name, value in children.items()}
    if column := witness.get("column"):
        new["column"] = to.column(jobs, column)
    return new


def _corrected_action(jobs: str, action: Mapping[str, Any], to: Corrections) -> dict[str, Any]:
    new: dict[str, Any] = {"set": _corrected_values(jobs, jobs, action["set"], to)}
    if "also" in action:
        new["also"] = [
            {
                "insert": to.tables.get(insert["insert"], insert["insert"]),
                "values": _corrected_values(jobs, insert["insert"], insert["values"], to),
            }
            for insert in action["also"]
        ]
    return new


def _corrected_values(jobs: str, table: str, values: Mapping[str, Any], to: Corrections) -> dict[str, Any]:
    return {to.column(table, name): _corrected_value(jobs, table, name, v, to) for name, v in values.items()}


def _corrected_value(jobs: str, table: str, name: str, value: Any, to: Corrections) -> Any:
    if isinstance(value, Mapping):
        return {"column": to.column(jobs, value["column"])} if "column" in value else dict(value)
    return to.value(table, name, value)


def _removes(old: Any, new: Any) -> bool:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return False
    return any(name not in new or _removes(value, new[name]) for name, value in old.items())


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are compared name by name; a list that differs stands whole, as a list is not merged."""
    found: dict[str, Any] = {}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if deeper := _difference(before, value):
                found[name] = deeper
        elif _toml(before) != _toml(value):
            found[name] = value
    return found


def _lines(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        place = f"{path}{_key(name)}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{place}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield "\n".join((f"{place} = [", *(f"    {_toml(item)}," for item in value), "]"))
        else:
            yield f"{place} = {_toml(value)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(name)} = {_toml(item)}' for name, item in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings are TOML's, but for the one control character that JSON lets stand.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
