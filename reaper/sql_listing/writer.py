"""Statements as text, for one source: its SQL, folded, and what each of its parameters stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.sql.compiler import ExpandedState, SQLCompiler

from reaper.common.durations import format_duration
from reaper.liveness import LivenessReport
from reaper.model import ServerClock
from reaper.profile import Action, Insert, Profile
from reaper.source import Source
from reaper.sql.keys import KEY_COLUMN_VALUES, WHOLE_KEYS
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_WIDTH = 120
_WORDS = re.compile(r"""(?:"[^"]*"|'[^']*'|`[^`]*`|[^\s"'`])+""")
_TASKS = "the ids of the tasks that live workers have"
_EXECUTED = "the ids of the tasks that live workers execute"


@dataclass(frozen=True, slots=True)
class ListingOptions:
    """What a daemon's statements owe to its settings: its interval and patience in seconds, and how many it names."""

    interval: float
    statement_timeout: float
    named: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, what it is for, which locks it takes, and the meaning of its parameters."""

    name: str
    purpose: str
    locks: str
    sql: str
    parameters: Mapping[str, str]


class _Open(str):
    """Stands for a value that only a sweep has, and says which."""

    __slots__ = ()


class StatementWriter:
    """Writes out the statements of one source."""

    def __init__(self, source: Source, dialect: Dialect) -> None:
        """`dialect` spells parameters with a colon."""
        self.source, self.dialect = source, dialect

    def context(self, seconds_ago: float = 0) -> EvaluationContext:
        """The moment of a sweep, of which only the distance between its parts is told.

        Where Celery is asked, workers of every queue have answered, and no message waits.
        """
        now, downtime = _NOW - timedelta(seconds=seconds_ago), DowntimeTracker(0)
        downtime.record_contact(ServerClock(now=now, server_started=now))
        served = frozenset(self.source.options.queues)
        said = LivenessReport(alive=frozenset({_TASKS}), executing={_EXECUTED: ""}, queues=served)
        return EvaluationContext.of(
            downtime, self.source.thresholds, said if self.source.profile.needs_broker else None
        )

    def written(
        self, name: str, purpose: str, locks: str, statement: ClauseElement, known: Mapping[str, str] | None = None
    ) -> Statement:
        """`known` are meanings of parameters that the statement itself gives no value."""
        compiled = statement.compile(dialect=self.dialect)
        if not isinstance(compiled, SQLCompiler):
            return Statement(name, purpose, locks, _folded(str(compiled)), {})
        meanings = {**self._meanings(), **(known or {})}
        wanted = [found for found, bound in compiled.binds.items() if bound.required]
        state = compiled.construct_expanded_state({each: self._open(compiled, each, meanings) for each in wanted})
        parameters = {each: _meaning(compiled, state, each) for each in state.parameters}
        return Statement(name, purpose, locks, _folded(state.statement), parameters)

    def _open(self, compiled: SQLCompiler, name: str, meanings: Mapping[str, str]) -> Any:
        """In the place of several keys stands one."""
        value = _Open(meanings[name])
        if not compiled.binds[name].expanding:
            return value
        width = len(self.source.profile.jobs.key)
        return [value] if name != WHOLE_KEYS else [(value,) * width]

    def _meanings(self) -> dict[str, str]:
        keys, own = self.source.profile.jobs.key, sorted(self.source.profile.row_columns())
        array = self.dialect.name == "postgresql"
        each = "the keys of a batch, an array" if array else "a key; there is one for each job of the batch"
        return {
            **{
                KEY_COLUMN_VALUES.format(n): each if len(keys) == 1 else f"{each}: {name}"
                for n, name in enumerate(keys)
            },
            WHOLE_KEYS: "a key; there is one for each job of the batch",
            **{f"found_key_{n}": f"what was judged: its {name}" for n, name in enumerate(keys)},
            **{f"found_text_{n}": f"what was judged: its {name}, as text" for n, name in enumerate(keys)},
            **{f"found_row_{n}": f"what was judged: its {name}" for n, name in enumerate(own)},
            **{
                f"found_{name}": f"what was judged: the {name}"
                for name in ("evidence", "message", "age", "silence", "kind", "witness")
            },
        }


def _meaning(compiled: SQLCompiler, state: ExpandedState, name: str) -> str:
    value = state.parameters[name]
    if isinstance(value, _Open):
        return str(value)
    if value in ([_TASKS], [_EXECUTED]):
        return f"{value[0]}, an array"
    if isinstance(value, datetime):
        return f"the database's now - {format_duration((_NOW - value).total_seconds())}"
    # As the driver is handed it: the ends of time are spelled differently from one database to the other.
    processor = {**compiled._bind_processors, **state.processors}.get(name)
    bound = processor(value) if callable(processor) and value is not None else value
    if bound is None or isinstance(bound, bool):
        return {None: "NULL", True: "true", False: "false"}[bound]
    return repr(str(bound)) if isinstance(bound, datetime) else repr(bound)


def _folded(text: str) -> str:
    """Long lines in several, without a break inside quotes."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        lines.append("")
        for word in _WORDS.findall(line):
            if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
                lines.append("   ")
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def written(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """All of them, the jobs' own first."""
    own = [profile.jobs.table for action in actions if action.assign is not None or action.delete]
    return list(dict.fromkeys([*own, *(step.table for action in actions for step in action.also)]))


def changed_elsewhere(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """Tables with rows that are changed and have not been locked before."""
    locked = {profile.jobs.table, *(part.table for part in profile.jobs.parts)}
    steps = [step.table for action in actions for step in action.also if not isinstance(step, Insert)]
    return [table for table in dict.fromkeys(steps) if table not in locked]
