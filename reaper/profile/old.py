"""The mapping vocabulary: how a job system says "running", shows life, and is told to stop.

A profile is data. Shipped ones stand in `profiles/`, one TOML file each; a user's own stands in the
configuration file, whole or as `extends = "<profile>"` with the differences. Nothing here knows SQL: a
profile names tables, columns and values; `reaper.rule` and `reaper.source` turn them into statements, always
quoting the names and binding the values.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from reaper.model import ConfigError
from reaper.nearest import did_you_mean

Name = Annotated[str, Field(min_length=1, max_length=255)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Scalar = bool | int | float | str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Running(_Part):
    """A job is running while `column` holds one of the values `in`."""

    column: Name
    values: Annotated[tuple[Scalar, ...], Field(alias="in", min_length=1)]


class Jobs(_Part):
    """The table of jobs. `started` lists columns, best first: the first that is not NULL counts.

    Columns of `claim` (a worker's id, a lock token) must not change between the survey and the lock.
    """

    table: Name
    key: Names
    kind: Name | None = None
    queue: Name | None = None
    status: Name | None = None
    started: Names
    claim: tuple[Name, ...] = ()
    running: Running


class Events(_Part):
    """Rows of `table` whose `job` columns hold the job's key were written at `at`."""

    table: Name
    job: Names
    at: Name


class Children(_Part):
    """Jobs of the same table whose `parent` columns hold the job's key.

    A running child is a sign of life now; any child is one at each of its `at` columns.
    """

    parent: Names
    at: Names


class Alive(_Part):
    """One witness: where signs of life come from. `witness` is its name in evidence and logs."""

    witness: Name
    events: Events | None = None
    children: Children | None = None
    column: Name | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Alive:
        given = [name for name in ("events", "children", "column") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "a witness has exactly one of 'events', 'children', 'column', "
                + (f"not {' and '.join(map(repr, given))}" if given else "and none is given")
            )
        return self


class Known(_Part):
    """A value that the reaper knows at the moment of the transition."""

    known: Annotated[Literal["now", "reason", "message", "evidence", "null"], Field(alias="is")]


class FromColumn(_Part):
    """A value of the job's own row, as it was before the transition."""

    column: Name


def _value_form(value: object) -> str:
    if isinstance(value, Known) or (isinstance(value, dict) and "column" not in value):
        return _KNOWN
    return _COLUMN if isinstance(value, (dict, FromColumn)) else _LITERAL


_KNOWN, _COLUMN, _LITERAL = "(known)", "(column)", "(literal)"


Value = Annotated[
    Annotated[Known, Tag(_KNOWN)] | Annotated[FromColumn, Tag(_COLUMN)] | Annotated[Scalar, Tag(_LITERAL)],
    Discriminator(_value_form),
]


class Insert(_Part):
    """A row written in the transition's own transaction."""

    table: Annotated[Name, Field(alias="insert")]
    values: Annotated[Mapping[Name, Value], Field(min_length=1)]


class Action(_Part):
    """A named transition of the job's row, and what is written with it."""

    assign: Annotated[Mapping[Name, Value], Field(alias="set", min_length=1)]
    also: tuple[Insert, ...] = ()


class Profile(_Part):
    """How one job system is read and told to stop."""

    name: str
    description: str = ""
    jobs: Jobs
    alive: tuple[Alive, ...] = ()
    actions: Mapping[Name, Action]

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if "fail" not in self.actions:
            raise ValueError("actions: 'fail' is missing: it is what a sweep does with a stale job")
        width = len(self.jobs.key)
        for alive in self.alive:
            for what, columns in (
                ("events.job", alive.events.job if alive.events else None),
                ("children.parent", alive.children.parent if alive.children else None),
            ):
                if columns is not None and len(columns) != width:
                    raise ValueError(
                        f"alive {alive.witness!r}: {what} has {len(columns)} columns, jobs.key has {width}"
                    )
        witnesses = [alive.witness for alive in self.alive]
        if len(set(witnesses)) != len(witnesses):
            raise ValueError("alive: two witnesses have the same name")
        for name, action in self.actions.items():
            changed = action.assign.get(self.jobs.running.column)
            if changed is None or changed in self.jobs.running.values:
                raise ValueError(
                    f"actions.{name}.set: {self.jobs.running.column!r} must be set to a value that does not "
                    "mean running, or the job would be ended again by every sweep"
                )
            for column in self.jobs.key:
                if column in action.assign:
                    raise ValueError(f"actions.{name}.set: {column!r} is part of the key and stays")
        return self

    @property
    def tables(self) -> frozenset[str]:
        """Every table that the profile names."""
        return frozenset(self.columns())

    def row_columns(self) -> frozenset[str]:
        """Columns of a job's row whose values the actions copy."""
        return frozenset(
            name
            for action in self.actions.values()
            for values in (action.assign, *(insert.values for insert in action.also))
            for name in _read_columns(values)
        )

    def columns(self) -> dict[str, set[str]]:
        """Every column that the profile names, by table."""
        jobs, found = self.jobs, {self.jobs.table: set[str]()}
        found[jobs.table].update(jobs.key, jobs.started, jobs.claim, [jobs.running.column])
        found[jobs.table].update(name for name in (jobs.kind, jobs.queue, jobs.status) if name)
        for alive in self.alive:
            if alive.events:
                found.setdefault(alive.events.table, set()).update((*alive.events.job, alive.events.at))
            if alive.children:
                found[jobs.table].update(alive.children.parent, alive.children.at)
            if alive.column:
                found[jobs.table].add(alive.column)
        for action in self.actions.values():
            found[jobs.table].update(action.assign)
            for insert in action.also:
                found.setdefault(insert.table, set()).update(insert.values)
        found[jobs.table].update(self.row_columns())
        return found


def _read_columns(values: Mapping[str, Value]) -> Iterator[str]:
    return (value.column for value in values.values() if isinstance(value, FromColumn))


def shipped() -> tuple[str, ...]:
    """The names of the profiles in the package."""
    folder = resources.files("reaper.profiles")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def resolve(name: str, custom: Mapping[str, Mapping[str, Any]] | None = None) -> Profile:
    """The profile of that name: the user's own before a shipped one.

    Raises ConfigError with every problem of it, each beginning with the place inside the profile.
    """
    table = _flatten(name, custom or {}, seen=())
    try:
        return Profile.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ConfigError([f"profile {name!r}: {line}" for line in _problems(error)]) from None


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


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _problems(error: ValidationError) -> Iterator[str]:
    """Pydantic's findings in the words of the file: one line each, with the nearest name."""
    told = set()
    for problem in error.errors():
        place = [str(part) for part in problem["loc"] if part not in _UNION_ARMS]
        where = ".".join(place)
        if problem["type"] == "extra_forbidden":
            value = _KNOWN in problem["loc"] or _COLUMN in problem["loc"]
            names = {"is", "column"} if value else _names_at(place[:-1])
            line = f"{where}: unknown name{did_you_mean(place[-1], names)}"
        elif problem["type"] == "missing":
            line = f"{where}: missing"
        else:
            line = f"{where}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        if line not in told:
            told.add(line)
            yield line


_UNION_ARMS = frozenset({_KNOWN, _COLUMN, _LITERAL, "bool", "int", "float", "str"})


def _names_at(place: list[str]) -> set[str]:
    """What may stand at a place of a profile, as the file spells it."""
    model: type[BaseModel] | None = Profile
    route: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
        (Profile, "jobs"): Jobs,
        (Jobs, "running"): Running,
        (Profile, "alive"): Alive,
        (Alive, "events"): Events,
        (Alive, "children"): Children,
        (Profile, "actions"): Action,
        (Action, "also"): Insert,
    }
    for part in place:
        if model is not None:
            model = route.get((model, part), model)
    names = {field.alias or name for name, field in (model or Profile).model_fields.items()}
    return (names - {"name"}) | {"extends"} if model is Profile else names
