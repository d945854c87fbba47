"""Statements as text, for one source: the SQL in folded lines, and the meaning of each parameter."""

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
    """The daemon's settings that its statements depend on, and how many jobs it names in a log line."""

    interval_seconds: float
    statement_timeout_seconds: float
    max_named_jobs: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, its purpose, the locks that it takes, and the meaning of its parameters."""

    name: str
    purpose: str
    locks: str
    sql: str
    parameters: Mapping[str, str]


class _SweepValue(str):
    """Stands for a value that only a sweep has; the text says which."""

    __slots__ = ()


class StatementWriter:
    """Writes the statements of one source as text."""

    def __init__(self, source: Source, dialect: Dialect) -> None:
        """`dialect` must spell parameters with a colon."""
        self.source, self.dialect = source, dialect

    def context(self, seconds_ago: float = 0) -> EvaluationContext:
        """The context of a sweep at a made-up time; timestamps are shown as their distance from it.

        Where Celery is inspected, workers of every queue have answered, and no message waits.
        """
        now, downtime = _NOW - timedelta(seconds=seconds_ago), DowntimeTracker(0)
        downtime.record_contact(ServerClock(now=now, server_started=now))
        queues = frozenset(self.source.options.queues)
        liveness = LivenessReport(alive=frozenset({_TASKS}), executing={_EXECUTED: ""}, queues=queues)
        return EvaluationContext.of(
            downtime, self.source.thresholds, liveness if self.source.profile.needs_broker else None
        )

    def statement(
        self, name: str, purpose: str, locks: str, clause: ClauseElement, meanings: Mapping[str, str] | None = None
    ) -> Statement:
        """`meanings` are those of parameters that the clause gives no value and that no other statement has."""
        compiled = clause.compile(dialect=self.dialect)
        if not isinstance(compiled, SQLCompiler):
            return Statement(name, purpose, locks, _folded_lines(str(compiled)), {})
        all_meanings = {**self._common_meanings(), **(meanings or {})}
        required = [parameter for parameter, bound in compiled.binds.items() if bound.required]
        values = {parameter: self._sweep_value(compiled, parameter, all_meanings) for parameter in required}
        state = compiled.construct_expanded_state(values)
        parameters = {parameter: _meaning(compiled, state, parameter) for parameter in state.parameters}
        return Statement(name, purpose, locks, _folded_lines(state.statement), parameters)

    def _sweep_value(self, compiled: SQLCompiler, name: str, meanings: Mapping[str, str]) -> Any:
        """One key stands for all keys of a batch."""
        value = _SweepValue(meanings[name])
        if not compiled.binds[name].expanding:
            return value
        width = len(self.source.profile.jobs.key)
        return [value] if name != WHOLE_KEYS else [(value,) * width]

    def _common_meanings(self) -> dict[str, str]:
        keys, row_columns = self.source.profile.jobs.key, sorted(self.source.profile.row_columns())
        one_key = "a key; there is one for each job of the batch"
        batch_keys = "the keys of a batch, an array" if self.dialect.name == "postgresql" else one_key
        return {
            **{
                KEY_COLUMN_VALUES.format(n): batch_keys if len(keys) == 1 else f"{batch_keys}: {name}"
                for n, name in enumerate(keys)
            },
            WHOLE_KEYS: one_key,
            **{f"found_key_{n}": f"what was judged: its {name}" for n, name in enumerate(keys)},
            **{f"found_text_{n}": f"what was judged: its {name}, as text" for n, name in enumerate(keys)},
            **{f"found_row_{n}": f"what was judged: its {name}" for n, name in enumerate(row_columns)},
            **{
                f"found_{name}": f"what was judged: the {name}"
                for name in ("evidence", "message", "age", "silence", "kind", "witness")
            },
        }


def _meaning(compiled: SQLCompiler, state: ExpandedState, name: str) -> str:
    value = state.parameters[name]
    if isinstance(value, _SweepValue):
        return str(value)
    if value in ([_TASKS], [_EXECUTED]):
        return f"{value[0]}, an array"
    if isinstance(value, datetime):
        return f"the database's now - {format_duration((_NOW - value).total_seconds())}"
    # As the driver gets it: each server spells the ends of time in its own way.
    processor = {**compiled._bind_processors, **state.processors}.get(name)
    bound = processor(value) if callable(processor) and value is not None else value
    if bound is None or isinstance(bound, bool):
        return {None: "NULL", True: "true", False: "false"}[bound]
    return repr(str(bound)) if isinstance(bound, datetime) else repr(bound)


def _folded_lines(text: str) -> str:
    """Breaks long lines, but never inside quotes."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        lines.append("")
        for word in _WORDS.findall(line):
            if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
                lines.append("   ")
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def written_tables(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """The tables that the actions write, the jobs table first."""
    jobs = [profile.jobs.table for action in actions if action.assign is not None or action.delete]
    return list(dict.fromkeys([*jobs, *(step.table for action in actions for step in action.also)]))


def changed_unlocked_tables(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """The tables in which the actions change rows that have not been locked before."""
    locked = {profile.jobs.table, *(part.table for part in profile.jobs.parts)}
    steps = [step.table for action in actions for step in action.also if not isinstance(step, Insert)]
    return [table for table in dict.fromkeys(steps) if table not in locked]
