"""Corrects the names, values and time formats of a profile that the database does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reaper.model import StoredTime
from reaper.profile import Profile
from reaper.profile.sql_template import pieces
from reaper.profile.times import as_written, split_key

_STEPS = ("insert", "update", "delete", "table")
_NOT_COLUMNS = ("witness", "unit", "events", "worker", "ended_by_reaper")
"""Keys of witnesses, limits and attempts whose values are no columns of the jobs table."""


@dataclass(slots=True)
class Corrections:
    """What to write instead: tables, columns, values and time formats, by their names in the profile."""

    tables: dict[str, str] = field(default_factory=dict)
    columns: dict[tuple[str, str], str] = field(default_factory=dict)
    values: dict[tuple[str, str, str], str] = field(default_factory=dict)
    times: dict[str, StoredTime] = field(default_factory=dict)
    alive: list[dict[str, Any]] = field(default_factory=list)
    """Witnesses for a profile that has none, as in its TOML table."""

    def __bool__(self) -> bool:
        return bool(self.tables or self.columns or self.values or self.times or self.alive)

    def table(self, name: str) -> str:
        return self.tables.get(name, name)

    def column(self, table: str, name: str) -> str:
        return self.columns.get((table, name), name)

    def value(self, table: str, column: str, value: Any) -> Any:
        return self.values.get((table, column, value), value) if isinstance(value, str) else value


def corrected_profile(profile: Profile, old: Mapping[str, Any], corrections: Corrections) -> dict[str, Any]:
    """The profile's TOML table with all corrections made; `old` is that table as it is."""
    corrections = _with_rows_beside(profile, corrections)
    return _ProfileCorrector(profile.jobs.table, profile.jobs.state, profile.tables, corrections).profile(old)


def _with_rows_beside(profile: Profile, corrections: Corrections) -> Corrections:
    """Also for the columns of rows beside the job, as they are named among the job's columns."""
    jobs, columns, values = profile.jobs.table, dict(corrections.columns), dict(corrections.values)
    for name, beside in profile.jobs.beside.items():
        for (table, column), correct in corrections.columns.items():
            if table == beside.table:
                columns[jobs, f"{name}.{column}"] = f"{name}.{correct}"
        for (table, column, value), correct in corrections.values.items():
            if table == beside.table:
                values[jobs, f"{name}.{column}", value] = correct
    return replace(corrections, columns=columns, values=values)


@dataclass(frozen=True, slots=True)
class _ProfileCorrector:
    """Walks through a profile's TOML table. `jobs` is the jobs table, `state` its state column, `tables` are all."""

    jobs: str
    state: str | None
    tables: frozenset[str]
    corrections: Corrections

    def profile(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new = {**old, "jobs": self._jobs(old["jobs"])}
        if "alive" in old:
            new["alive"] = [self._witness(witness) for witness in old["alive"]]
        elif self.corrections.alive:
            new["alive"] = self.corrections.alive
        for name in ("limits", "attempts"):
            if name in old:
                new[name] = self._job_columns(old[name])
        new["actions"] = {name: self._action(action) for name, action in old["actions"].items()}
        if "choices" in old:
            new["choices"] = {name: self._choice(choice) for name, choice in old["choices"].items()}
        if "purge" in old:
            new["purge"] = self._purge(old["purge"])
        if "again" in old.get("fence", {}) and self.state:
            new["fence"] = {"again": self._values_of(self.jobs, self.state, old["fence"]["again"])}
        times = {**old.get("times", {}), **{key: as_written(time) for key, time in self.corrections.times.items()}}
        return {**new, "times": {self._time_key(key): time for key, time in times.items()}} if times else new

    def _time_key(self, key: str) -> str:
        table, column = split_key(key, self.tables)
        corrected = self.corrections.table(table)
        return corrected if column is None else f"{corrected}.{self.corrections.column(table, column)}"

    def _jobs(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new = {**old, "table": self.corrections.table(self.jobs)}
        for name in ("key", "kind", "queue", "status", "started", "claim", "holder"):
            if name in old:
                new[name] = self._names(self.jobs, old[name])
        if kind_name := old.get("kind_name"):
            name = self._names(kind_name["table"], kind_name["column"])
            new["kind_name"] = {**self._related(kind_name), "column": name}
        if "running" in old:
            new["running"] = self._running(old["running"])
        if log := old.get("log"):
            types = {name: self._values_of(self.jobs, log["type"], log[name]) for name in ("started", "ended")}
            new["log"] = {**log, **{name: self._names(self.jobs, log[name]) for name in ("type", "order")}, **types}
        if "parts" in old:
            new["parts"] = [self._related(part) for part in old["parts"]]
        if "beside" in old:
            new["beside"] = {name: self._beside(beside) for name, beside in old["beside"].items()}
        return new

    def _beside(self, old: Mapping[str, Any]) -> dict[str, Any]:
        newest = {"newest": self._names(old["table"], old["newest"])} if "newest" in old else {}
        return {**self._related(old), **newest}

    def _running(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new = self._condition(self.jobs, old)
        if "where" in old:
            new["where"] = [self._condition(self.jobs, condition) for condition in old["where"]]
        for name in ("exists", "missing"):
            if name in old:
                new[name] = [self._related(related) for related in old[name]]
        return new

    def _witness(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = self._job_columns(old)
        for place in ("events", "worker"):
            if rows := old.get(place):
                lists = [name for name in ("key", "job", "at", "name") if name in rows]
                named = {name: self._names(rows["table"], rows[name]) for name in lists}
                new[place] = {**self._related(rows), **named}
        return new

    def _job_columns(self, old: Any) -> Any:
        """A TOML table in which every text is a column of the jobs table, except those of `_NOT_COLUMNS`."""
        if isinstance(old, Mapping):
            return {name: self._job_column(name, value) for name, value in old.items()}
        return self._names(self.jobs, old)

    def _job_column(self, name: str, old: Any) -> Any:
        if name == "sql":
            return self._template(self.jobs, old)
        return old if name in _NOT_COLUMNS else self._job_columns(old)

    def _purge(self, old: Mapping[str, Any]) -> dict[str, Any]:
        steps = {name: [self._related(related) for related in old[name]] for name in ("needed", "also") if name in old}
        where = [self._condition(self.jobs, condition) for condition in old["where"]]
        return {**old, "where": where, "at": self._names(self.jobs, old["at"]), **steps}

    def _action(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new = dict(old)
        if "set" in old:
            new["set"] = self._assigned(self.jobs, old["set"])
        if "also" in old:
            new["also"] = [self._related(step) for step in old["also"]]
        if "keep" in old:
            new["keep"] = self._names(self.jobs, old["keep"])
        return new

    def _choice(self, old: Mapping[str, Any]) -> dict[str, Any]:
        new = dict(old)
        if "where" in old:
            new["where"] = [self._condition(self.jobs, condition) for condition in old["where"]]
        if "rows" in old:
            new["rows"] = [self._related(rows) for rows in old["rows"]]
        return new

    def _related(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Rows of another table, and what the action does with them."""
        head = next(name for name in _STEPS if name in old)
        table = old[head]
        new = {**old, head: self.corrections.table(table)}
        if "match" in old:
            new["match"] = self._match(table, old["match"])
        if "where" in old:
            new["where"] = [self._condition(table, condition) for condition in old["where"]]
        if "when" in old:
            new["when"] = [self._condition(self.jobs, condition) for condition in old["when"]]
        for name in ("keep", "unless_there"):
            if name in old:
                new[name] = self._names(table, old[name])
        for name in ("set", "values"):
            if name in old:
                new[name] = self._assigned(table, old[name])
        return new

    def _match(self, table: str, old: Mapping[str, str]) -> dict[str, str]:
        return {
            self.corrections.column(table, name): self.corrections.column(self.jobs, job_column)
            for name, job_column in old.items()
        }

    def _condition(self, table: str, old: Mapping[str, Any]) -> dict[str, Any]:
        new = dict(old)
        if "sql" in old:
            new["sql"] = self._template(table, old["sql"])
        if column := old.get("column"):
            new["column"] = self.corrections.column(table, column)
            for name in ("in", "not_in", "less_than", "greater_than"):
                if name in old:
                    new[name] = self._bound(table, column, old[name])
        if "any_of" in old:
            new["any_of"] = [self._condition(table, part) for part in old["any_of"]]
        return new

    def _bound(self, table: str, column: str, old: Any) -> Any:
        if isinstance(old, Mapping) and "column" in old:
            return {"column": self.corrections.column(table, old["column"])}
        return self._values_of(table, column, old)

    def _assigned(self, table: str, old: Mapping[str, Any]) -> dict[str, Any]:
        return {self.corrections.column(table, name): self._value(table, name, value) for name, value in old.items()}

    def _value(self, table: str, column: str, old: Any) -> Any:
        if not isinstance(old, Mapping):
            return self.corrections.value(table, column, old)
        new = dict(old)
        if "column" in old:
            new["column"] = self.corrections.column(self.jobs, old["column"])
        if "grows" in old:
            new["grows"] = {**old["grows"], "column": self.corrections.column(self.jobs, old["grows"]["column"])}
        if "append" in old:
            new["append"] = self._value(table, "", old["append"])
        if "first" in old:
            new["first"] = [self._value(table, column, part) for part in old["first"]]
        if "json" in old:
            new["json"] = {name: self._value(table, "", part) for name, part in old["json"].items()}
        if "sql" in old:
            new["sql"] = self._template(self.jobs, old["sql"])
        if beyond := old.get("next"):
            columns = {"column": self.corrections.column(beyond["table"], beyond["column"])}
            if "every_column" in beyond:
                columns["every_column"] = self.corrections.column(table, beyond["every_column"])
            new["next"] = {**self._related(beyond), **columns}
        return new

    def _values_of(self, table: str, column: str, old: Any) -> Any:
        if isinstance(old, Sequence) and not isinstance(old, str):
            return [self.corrections.value(table, column, value) for value in old]
        return self.corrections.value(table, column, old)

    def _names(self, table: str, old: Any) -> Any:
        if isinstance(old, str):
            return self.corrections.column(table, old)
        return [self.corrections.column(table, name) for name in old] if isinstance(old, Sequence) else old

    def _template(self, table: str, old: str) -> str:
        parts: list[str] = []
        for piece in pieces(old):
            parts.append(piece.sql.replace("{", "{{").replace("}", "}}"))
            parts += [f"{{{self.corrections.column(table, piece.column)}}}"] if piece.column is not None else []
        return "".join(parts)
