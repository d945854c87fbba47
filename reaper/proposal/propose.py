"""Proposes a profile for a table of jobs that no shipped profile is for: line by line, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reaper.catalog.tables import Column
from reaper.model import TimestampFormat
from reaper.profile import Profile, resolve
from reaper.proposal.looks import Key, Looks, is_switch
from reaper.proposal.moments import MomentColumn, moment_columns
from reaper.proposal.states import (
    Question,
    RunningRows,
    failed_question,
    failed_value,
    running_question,
    running_rows,
    shown_value,
)
from reaper.proposal.witnesses import EventRows, ProposedWitness, TimedColumn, proposed_witnesses
from reaper.proposal.words import (
    IS_CODE,
    IS_MESSAGE,
    KINDS,
    QUEUES,
    UNITS,
    Moment,
    is_holder,
    is_run_limit,
    joined,
    words,
)

_ENOUGH_TEXT = 200
"""Characters that hold the message of a reap as it is."""
_MOST = 0.9


class Line(NamedTuple):
    """A key and its value, with the reason. A line that is not `sure` is a guess."""

    key: str
    value: Any
    why: str
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """The lines of a profile, by the path of their table in it; "" is the profile itself."""

    name: str
    table: str
    parts: Mapping[str, Sequence[Line]]
    questions: Sequence[Question]
    longest_seconds: float | None = None
    """The longest that a job took which has ended, among the rows that were read."""

    @property
    def has_witness(self) -> bool:
        return any(line.key == "alive" and line.value for line in self.parts[""])

    def profile(self) -> Profile:
        """The profile that these lines make. Raises ConfigError for lines that make none."""
        tree = dict[str, Any]()
        for path, lines in self.parts.items():
            part = tree
            for key in path.split(".") if path else ():
                part = part.setdefault(key, {})
            part.update({line.key: line.value for line in lines})
        return resolve(self.name, {self.name: tree})


class Unproposable(Exception):
    """Why no profile can be proposed for a table."""


def propose(
    name: str, jobs: str, looks: Looks, events: Sequence[EventRows], answers: Mapping[str, str] | None = None
) -> Proposal:
    """The profile that fits what was seen, for the table that it calls `jobs`. `answers` are those of a person.

    Raises Unproposable.
    """
    given, moments = answers or {}, moment_columns(looks)
    if not looks.key:
        raise Unproposable("nothing tells one job from another")
    running = running_rows(looks, moments, given.get("running"))
    if running is None:
        raise Unproposable("no column has the state of a job, and no two columns have its start and its end")
    witnesses = proposed_witnesses(jobs, looks, moments, running, events)
    started = _started(looks, moments, running)
    if not started:
        raise Unproposable("no column has a moment that could be the start of a job")
    timed = [(jobs, m.name, m.format) for m in started] + [column for w in witnesses for column in w.timed]
    assigned = list(_assigned(looks, moments, running, given.get("failed")))
    if not assigned:
        raise Unproposable("no column was found that can say that a job has been ended")
    of_profile = [*_times(timed), _alive(witnesses), *_limits(looks)]
    of_jobs = list(_jobs(jobs, looks, running, started))
    parts = {"": of_profile, "jobs": of_jobs, "actions.fail.set": assigned}
    questions = [one for one in (running_question(running), failed_question(looks, running)) if one is not None]
    return Proposal(name, jobs, parts, questions, _longest(moments, started))


def _longest(moments: Mapping[str, MomentColumn], started: Sequence[MomentColumn]) -> float | None:
    ends = [m for m in moments.values() if m.role is Moment.FINISHED]
    took = [end.at[key] - start for end in ends for key, start in started[0].at.items() if key in end.at]
    return max(took, default=None)


# --- the profile -----------------------------------------------------------------------------------------------------


def _times(timed: Sequence[TimedColumn]) -> Iterator[Line]:
    """The format that most columns have, and those of the others."""
    formats = {(table, column): format_ for table, column, format_ in timed}
    [(usual, _)] = Counter(formats.values()).most_common(1)
    others = {f"{table}.{column}": f.value for (table, column), f in formats.items() if f is not usual}
    if usual is not TimestampFormat.TIMESTAMPTZ:
        yield Line("time", usual.value, "the type, or the values, of its columns with moments")
    if others:
        yield Line("times", others, "the columns whose moments are of another format")


def _alive(witnesses: Sequence[ProposedWitness]) -> Line:
    if not witnesses:
        return Line(
            "alive",
            [],
            "nothing was found that shows that a job lives. A job is stale once it has run for longer than both "
            "thresholds: let no living job do that",
            sure=False,
        )
    why = "; ".join(f"{witness.value['witness']}: {witness.why}" for witness in witnesses)
    return Line("alive", [witness.value for witness in witnesses], why, all(witness.sure for witness in witnesses))


def _limits(looks: Looks) -> Iterator[Line]:
    for name, column in looks.table.columns.items():
        if is_run_limit(name) and column.family in ("integer", "number"):
            unit = next((UNITS[word] for word in words(name) if word in UNITS), None)
            why = f"by its name, {name} says for how long a job may run" + ("" if unit else "; its unit is a guess")
            yield Line("limits", {"timeout": {"column": name, "unit": unit or "s"}}, why, sure=unit is not None)
            return


# --- the jobs --------------------------------------------------------------------------------------------------------


def _jobs(jobs: str, looks: Looks, running: RunningRows, started: Sequence[MomentColumn]) -> Iterator[Line]:
    yield Line("table", jobs, _seen(looks, running))
    why = "the database keeps it unique" if looks.key_is_unique else "no unique key without NULL was found"
    yield Line("key", list(looks.key), why, looks.key_is_unique)
    if kind := _named(looks, KINDS, ("text", "enum")):
        values = {row[kind] for row in looks.rows.values()}
        why = f"by its name; {len(values)} values in {len(looks.rows)} rows" if looks.rows else "by its name"
        yield Line("kind", kind, why, sure=len(values) * 2 <= len(looks.rows))
    if queue := _named(looks, QUEUES, ("text", "enum")):
        yield Line("queue", queue, "by its name")
    yield Line("started", [m.name for m in started], _why_started(started), started[0].role is Moment.STARTED)
    claim = _claim(looks, running)
    if claim:
        yield Line(
            "claim", claim, "by its name, it says which worker has a job: a job that it changes for is left alone"
        )
    yield _running(looks, running)


def _seen(looks: Looks, running: RunningRows) -> str:
    if looks.not_read:
        return f"its rows were not read: {looks.not_read}. What follows is by names and types alone"
    return f"{len(looks.rows)} of its rows were read, of which {len(running.keys)} seem to run"


def _why_started(started: Sequence[MomentColumn]) -> str:
    first = started[0]
    begins = "by its name, a job begins then" if first.role is Moment.STARTED else "no column is named after the start"
    return f"{first.name}: {begins}" + ("; the others count where it is NULL" if len(started) > 1 else "")


def _started(looks: Looks, moments: Mapping[str, MomentColumn], running: RunningRows) -> list[MomentColumn]:
    """The columns with a job's start, then those that count where it has none."""
    order = (Moment.STARTED, Moment.CREATED, Moment.PLANNED, Moment.CHANGED, None)
    ranked = sorted((m for m in moments.values() if m.role in order), key=lambda m: order.index(m.role))
    starts = [m for m in ranked if m.role is Moment.STARTED]
    starts.sort(key=lambda m: not {"started", "start", "begun", "began", "begin"} & set(words(m.name)))
    # A column that moves while a job runs is no start.
    starts = [m for m in starts if not looks.moved.get(m.name, frozenset()) & running.keys]
    created = [m for m in ranked if m.role is Moment.CREATED]
    return [*starts, *created] or [m for m in ranked if m not in starts][:1]


def _running(looks: Looks, running: RunningRows) -> Line:
    where = [*running.where, *_not_deleted(looks)]
    value = dict[str, Any]()
    if running.column is not None and list(running.values) == [None]:
        where.insert(0, {"column": running.column.name, "is": "null"})
    elif running.column is not None:
        values = [{"is": "null"} if value is None else value for value in running.values]
        value = {"column": running.column.name, "in": values}
    if where:
        value["where"] = where
    others = [shown_value(one.value) for one in running.classes if one.value not in running.values]
    rest = f"; its other values: {', '.join(others)}" if others else ""
    return Line("running", value, f"{running.why}{rest}", running.certain)


def _not_deleted(looks: Looks) -> Iterator[Mapping[str, Any]]:
    for name, column in looks.table.columns.items():
        if "deleted" in words(name):
            no = False if column.family == "boolean" else 0
            yield {"column": name, "in": [no]} if is_switch(column) else {"column": name, "is": "null"}


def _claim(looks: Looks, running: RunningRows) -> list[str]:
    """The columns that name a job's worker, as far as the running jobs that were seen have them."""
    found = []
    for name in looks.table.columns:
        if is_holder(name) and name not in looks.key and name not in looks.moved:
            has = sum(looks.rows[key][name] is not None for key in running.keys)
            if has >= _MOST * len(running.keys):
                found.append(name)
    return found


def _named(looks: Looks, names: Sequence[str], families: Sequence[str]) -> str | None:
    by_name = {joined(name): name for name, column in looks.table.columns.items() if column.family in families}
    return next((by_name[name] for name in names if name in by_name), None)


# --- the end of a job ------------------------------------------------------------------------------------------------


def _assigned(
    looks: Looks, moments: Mapping[str, MomentColumn], running: RunningRows, answer: str | None
) -> Iterator[Line]:
    if running.column is not None:
        if (failed := failed_value(looks, running, answer)) is None:
            raise Unproposable(f"nothing shows which value of {running.column.name} means that a job has failed")
        value, why, sure = failed
        yield Line(running.column.name, value, why, sure)
    for moment in moments.values():
        if moment.role is Moment.FINISHED and _free(looks, moment.name, running.keys):
            yield Line(moment.name, {"is": "now"}, "by its name, a job ends then")
            break
    for column in looks.table.columns.values():
        if _is_text(column) and (IS_MESSAGE & set(words(column.name))) and not (IS_CODE & set(words(column.name))):
            cut = {"most": column.length} if column.length is not None and column.length < _ENOUGH_TEXT else {}
            yield Line(column.name, {"is": "message", **cut}, "by its name, it says why a job has failed")
            break
    for column in looks.table.columns.values():
        if (
            _is_text(column)
            and {"error", "err", "failure"} & set(words(column.name))
            and IS_CODE & set(words(column.name))
        ):
            yield Line(column.name, {"is": "reason"}, "by its name, it says in one word why a job has failed")
            break


def _free(looks: Looks, column: str, keys: frozenset[Key]) -> bool:
    """Whether a column is NULL in jobs that run, so that it is the end that makes a value of it."""
    return all(looks.rows[key][column] is None for key in keys)


def _is_text(column: Column) -> bool:
    return column.family == "text" and not column.generated and not column.labels
