"""Statements as text, for one source: the SQL in folded lines, and the meaning of each parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ClauseElement, Dialect

from reaper.common.durations import format_duration
from reaper.model import DISTANT_PAST, ServerClock
from reaper.profile import Action, Insert, Profile
from reaper.source import AuditInfo, Source
from reaper.source.event_log_lock import wait_values
from reaper.source.reap import BatchLocks, Transition, make_transition
from reaper.source.survey import MAX_READ, MAX_SPARED
from reaper.source.transition.second_check import Predicate, is_stale
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import KEY_COLUMN_VALUES, STORED_KEYS, WHOLE_KEYS
from reaper.sql.statement import CompiledStatement, with_list, with_places
from reaper.staleness import kind_limits, parameters, silence_cutoffs
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_WIDTH = 120
_WORDS = re.compile(r"""(?:"[^"]*"|'[^']*'|`[^`]*`|[^\s"'`])+""")
_LIVENESS = {
    parameters.ALIVE: "the ids of the tasks that live workers have, an array",
    parameters.EXECUTING: "the ids of the tasks that live workers execute, an array",
    parameters.SERVED: "the queues whose workers have answered, an array",
    parameters.BACKLOG: "the queues with messages that could not be read, an array",
    parameters.IS_SERVED: "whether workers of every queue have answered",
    parameters.HAS_BACKLOG: "whether a queue has messages that could not be read",
    parameters.NOT_ASKED: "why Celery could not be asked; NULL when it could",
    parameters.UNRELIABLE: "the queues that some worker has not answered for, with the reason, as JSON",
    parameters.UNRELIABLE_QUEUE: "why some worker has not answered; NULL when all have",
}

_AUDIT_INFO = AuditInfo(source="(source)", sweep_id="(sweep)", host="(host)")


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


class StatementWriter:
    """Writes the statements of one source as text."""

    def __init__(self, source: Source, dialect: Dialect, options: ListingOptions) -> None:
        self.source, self.dialect = source, dialect
        self._statements = source.statements
        self._values = {
            **self._statements.values(self._context(), self._context(options.interval_seconds)),
            **replace(_AUDIT_INFO, action="(action)").values,
            **wait_values(long_wait=False),
            MAX_READ: options.max_named_jobs + 1,
            MAX_SPARED: options.max_named_jobs + 1,
        }
        self._meanings = self._common_meanings()

    def _context(self, seconds_ago: float = 0) -> EvaluationContext:
        """The context of a sweep at a made-up time; timestamps are shown as their distance from it."""
        now, downtime = _NOW - timedelta(seconds=seconds_ago), DowntimeTracker(0)
        downtime.record_contact(ServerClock(now=now, server_started=now))
        return EvaluationContext.of(downtime, self.source.thresholds)

    def locks(self) -> BatchLocks:
        """The statements with which a sweep locks the jobs of a batch."""
        return self._statements.get(self.dialect, BatchLocks)

    def transition(self, action: str, predicate: Predicate = is_stale) -> Transition:
        """The statements with which a sweep ends those jobs by this action that `predicate` chooses."""
        fields = tuple(self.source.naming(_AUDIT_INFO, action).fields)
        return self._statements.get(self.dialect, make_transition, action, predicate, fields)

    def query(
        self, name: str, purpose: str, locks: str, query: Callable[..., ClauseElement], *arguments: Hashable
    ) -> Statement:
        """The statement that `query` makes of the source's rule and these arguments."""
        return self.statement(name, purpose, locks, self._statements.compiled(self.dialect, query, *arguments))

    def clause(
        self, name: str, purpose: str, locks: str, clause: ClauseElement, meanings: Mapping[str, str] | None = None
    ) -> Statement:
        """A statement that is not the source's own. `meanings` are those of its parameters."""
        return self.statement(name, purpose, locks, CompiledStatement(clause, self.dialect), meanings)

    def statement(
        self,
        name: str,
        purpose: str,
        locks: str,
        compiled: CompiledStatement,
        meanings: Mapping[str, str] | None = None,
    ) -> Statement:
        """`meanings` are those of parameters that no other statement has."""
        text, known = compiled.text, {**self._meanings, **(meanings or {})}
        shown = {name: known.get(name) or _constant(value) for name, value in compiled.constants.items()}
        for parameter, conversion in compiled.parameters.items():
            if parameter in compiled.lists:
                # One key stands for all keys of a batch.
                width = len(self.source.profile.jobs.key)
                one_key = (known[parameter],) * width if parameter in (WHOLE_KEYS, STORED_KEYS) else known[parameter]
                text, places = with_list(text, parameter, [one_key])
                shown |= places
            else:
                shown[parameter] = known.get(parameter) or _value(self._values[parameter], conversion)
        text = with_places(text, lambda parameter: f":{parameter}", "%")
        return Statement(name, purpose, locks, folded_lines(text), shown)

    def _common_meanings(self) -> dict[str, str]:
        keys, row_columns = self.source.profile.jobs.key, sorted(self.source.profile.row_columns())
        one_key = "a key; there is one for each job of the batch"
        batch_keys = "the keys of a batch, an array" if self.dialect.name == "postgresql" else one_key
        return {
            **_LIVENESS,
            **{
                parameters.REAPERS.format(n): "what the reaper wrote lately to rows that it ended, an array"
                for n in range(len(self.source.profile.alive))
            },
            **{
                KEY_COLUMN_VALUES.format(n): batch_keys if len(keys) == 1 else f"{batch_keys}: {name}"
                for n, name in enumerate(keys)
            },
            **dict.fromkeys(
                kind_limits.PARAMETERS, "the limits of the kinds with thresholds of their own, a row for each"
            ),
            **dict.fromkeys(
                silence_cutoffs.PARAMETERS, "how far back stall windows reach when downtime is stepped over"
            ),
            WHOLE_KEYS: one_key,
            STORED_KEYS: f"{one_key}, with bytes where the column has bytes",
            **dict.fromkeys(self._statements.identity_values, "the table, or its definition, of the first contact"),
            OWN_PATH: "the role's own search path, which its triggers are to have",
            **{f"found_key_{n}": f"what was judged: its {name}" for n, name in enumerate(keys)},
            **{f"found_text_{n}": f"what was judged: its {name}, as text" for n, name in enumerate(keys)},
            **{f"found_row_{n}": f"what was judged: its {name}" for n, name in enumerate(row_columns)},
            **{
                f"found_{name}": f"what was judged: the {name}"
                for name in ("evidence", "message", "age", "silence", "kind", "witness")
            },
        }


def _value(value: object, conversion: Callable[[Any], Any] | None) -> str:
    if isinstance(value, datetime) and value != DISTANT_PAST:
        return f"the database's now - {format_duration((_NOW - value).total_seconds())}"
    # As the driver gets it: each server spells the ends of time in its own way.
    return _constant(value if conversion is None else conversion(value))


def _constant(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "true", False: "false"}[value]
    return repr(str(value)) if isinstance(value, datetime) else repr(value)


def folded_lines(text: str) -> str:
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
