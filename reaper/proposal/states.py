"""Which states of a job mean that it runs, waits, is done or has failed: by their words, and by what goes with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reaper.catalog.tables import Column
from reaper.proposal.looks import (
    LONGEST_STATE,
    MOST_STATES,
    Key,
    Looks,
    is_switch,
    may_be_state,
    possible_values,
)
from reaper.proposal.moments import MomentColumn
from reaper.proposal.words import IS_STATE, Moment, StateMeaning, failed_first, is_holder, state_of, words

_MOST = 0.9
_RUNS, _CLEARLY = 2.0, 2.0
"""From which score on a state may be a running one, and how much better it has to be than the others to be certain."""


@dataclass(frozen=True, slots=True)
class StateClass:
    """The rows with one value in the state column. `value` is as it is written into a profile; None is NULL."""

    value: bool | int | str | None
    keys: frozenset[Key]
    score: float
    why: str

    @property
    def word(self) -> StateMeaning | None:
        return state_of(self.value) if isinstance(self.value, str) else None


@dataclass(frozen=True, slots=True)
class RunningRows:
    """What says that a job runs: these values of a column, and NULL or a value in others (`where`).

    `keys` are the rows that were seen running. `classes` are the rows by every value of the column.
    """

    column: Column | None
    values: Sequence[bool | int | str | None]
    where: Sequence[Mapping[str, str]]
    why: str
    certain: bool
    keys: frozenset[Key]
    classes: Sequence[StateClass] = ()


def running_rows(looks: Looks, moments: Mapping[str, MomentColumn], answer: str | None = None) -> RunningRows | None:
    """Which rows run; None where nothing shows it. `answer` is the value that a person has named."""
    candidates = [found for column in _state_columns(looks) if (found := _classes(looks, moments, column))]
    if not candidates:
        return _by_moments(looks, moments) or _by_name_alone(looks)
    column, classes = max(candidates, key=lambda one: max(c.score for c in one[1]))
    if answer is None and column.family == "text" and all(one.score < 0 for one in classes):
        return _by_name_alone(looks)
    ranked: list[StateClass] = sorted(classes, key=lambda c: -c.score)
    if answer is not None:
        running = [one for one in ranked if _text(one.value) == answer]
    else:
        alike = [one for one in ranked if one.word is StateMeaning.RUNNING and one.score >= _RUNS]
        running = alike or ranked[:1]
    rest = [one for one in ranked if one not in running]
    best = max(one.score for one in running)
    certain = answer is not None or (best >= _RUNS and all(best - one.score >= _CLEARLY for one in rest))
    keys = frozenset[Key]().union(*(one.keys for one in running))
    where = list(_also(moments, running, rest, keys))
    why = "; ".join(f"{shown_value(one.value)}: {one.why}" for one in running)
    return RunningRows(column, [one.value for one in running], where, why, certain, keys, ranked)


def failed_value(
    looks: Looks, running: RunningRows, answer: str | None = None
) -> tuple[bool | int | str, str, bool] | None:
    """What a stale job's state becomes, why, and whether that is certain; None where nothing can be said."""
    if running.column is None:
        return None
    column, others = running.column, [one for one in running.classes if one.value not in running.values]
    known = {str(one.value): one for one in others if one.value is not None}
    if answer is not None:
        return _typed(column, answer), "as you said", True
    if names := failed_first(list(known)):
        return known[names[0]].value, f"{names[0]!r} is one of its values", True  # type: ignore[return-value]
    if column.family == "text" and not possible_values(looks.table, column):
        word = _in_the_case_of("failed", [_text(value) for value in running.values])
        return word, "no row has failed so far, so the word is a guess", False
    with_error = [one for one in others if one.value is not None and _has_error(looks, one.keys)]
    if with_error:
        return with_error[0].value, "rows with it have an error", False  # type: ignore[return-value]
    ended = [one for one in others if one.value is not None and one.score < 0 and one.word is not StateMeaning.WAITING]
    if ended or known:
        one = min(ended or list(known.values()), key=lambda c: (c.word is StateMeaning.DONE, len(c.keys)))
        return one.value, "nothing shows which value means that a job has failed", False  # type: ignore[return-value]
    return None


class Question(NamedTuple):
    """What a person may know better: `options` are values of the state column, as texts; `default` is what is written
    without an answer. `name` is that of the answer.
    """

    name: str
    text: str
    options: Sequence[str]
    default: str


def running_question(running: RunningRows) -> Question | None:
    """None where it is certain which value means that a job runs, or where no single one does."""
    if running.certain or running.column is None:
        return None
    options = [_text(one.value) for one in running.classes]
    text = f"Which value of {running.column.name} means that a job runs?"
    return Question("running", text, options, _text(running.values[0]))


def failed_question(looks: Looks, running: RunningRows) -> Question | None:
    """None where it is certain what a stale job's state becomes."""
    failed = failed_value(looks, running)
    if failed is None or failed[2] or running.column is None:
        return None
    options = [str(one.value) for one in running.classes if one.value not in (None, *running.values)]
    text = f"What does {running.column.name} become where a job is ended as failed?"
    return Question("failed", text, list(dict.fromkeys([*options, str(failed[0])])), str(failed[0]))


def shown_value(value: object) -> str:
    return "NULL" if value is None else repr(value)


# --- which column ----------------------------------------------------------------------------------------------------


def _state_columns(looks: Looks) -> list[Column]:
    return [
        column
        for column in looks.table.columns.values()
        if may_be_state(column)
        or (column.family == "text" and any(state_of(v) is StateMeaning.RUNNING for v in _few_values(looks, column)))
    ]


def _few_values(looks: Looks, column: Column) -> Collection[str]:
    """The values of a text column that has only a few, as states are; nothing for any other."""
    values = {row[column.name] for row in looks.rows.values()} - {None}
    few = len(values) <= MOST_STATES and len(looks.rows) >= 2 * len(values)
    return [v for v in values if v is not None and len(v) <= LONGEST_STATE] if few else ()


# --- one value -------------------------------------------------------------------------------------------------------


def _classes(
    looks: Looks, moments: Mapping[str, MomentColumn], column: Column
) -> tuple[Column, Sequence[StateClass]] | None:
    by_value = dict[str | None, set[Key]]()
    for value in possible_values(looks.table, column):
        by_value[value] = set()
    for key, row in looks.rows.items():
        by_value.setdefault(row[column.name], set()).add(key)
    if not by_value or len(by_value) > MOST_STATES or any(len(v or "") > LONGEST_STATE for v in by_value):
        return None
    bonus = 1.0 if IS_STATE & set(words(column.name)) else 0.0
    return column, [_class(looks, moments, column, value, frozenset(keys), bonus) for value, keys in by_value.items()]


def _class(
    looks: Looks,
    moments: Mapping[str, MomentColumn],
    column: Column,
    value: str | None,
    keys: frozenset[Key],
    bonus: float,
) -> StateClass:
    score, reasons = 0.0, list[str]()
    word = state_of(value) if value is not None and column.family in ("text", "enum") else None
    if is_switch(column):
        word = _word_of_switch(column, value)
    if word is StateMeaning.RUNNING:
        score, reasons = 3.0 + bonus, ["by its word"]
    elif word is not None:
        score = -3.0
    if keys:
        for role, weight, expected in ((Moment.STARTED, 1.5, True), (Moment.FINISHED, 3.0, False)):
            for moment in (m for m in moments.values() if m.role is role):
                share = len(keys & moment.at.keys()) / len(keys)
                if (share >= _MOST) is expected and (share <= 1 - _MOST) is not expected:
                    score += weight / 2 if role is Moment.FINISHED else weight
                    reasons.append(f"its rows have {'' if expected else 'no '}{moment.name}")
                elif (share <= 1 - _MOST) is expected:
                    score -= weight
        for name in looks.table.columns:
            if is_holder(name) and all(looks.rows[key][name] is not None for key in keys):
                score += 0.5
                reasons.append(f"its rows have {name}")
        for name, moved in looks.moved.items():
            if name in moments and (seen := len(moved & keys)):
                score += 4.0
                reasons.append(f"{name} moved in {seen} of its rows between two looks")
    return StateClass(_value(column, value), keys, score, ", ".join(reasons) or "nothing speaks for it")


def _word_of_switch(column: Column, value: str | None) -> StateMeaning | None:
    """`is_running` is true of a running job, `done` is true of one that is not."""
    word, is_true = state_of(column.name), value in ("true", "t", "1")
    if word is StateMeaning.RUNNING:
        return StateMeaning.RUNNING if is_true else StateMeaning.WAITING
    return StateMeaning.DONE if is_true else None


def _value(column: Column, text: str | None) -> bool | int | str | None:
    return None if text is None else _typed(column, text)


def _typed(column: Column, text: str) -> bool | int | str:
    if column.family == "boolean":
        return text in ("true", "t", "1")
    if column.family == "integer" or is_switch(column):
        return int(text)
    return text


def _text(value: bool | int | str | None) -> str:
    return "NULL" if value is None else str(value)


# --- what goes with it -----------------------------------------------------------------------------------------------


def _by_moments(looks: Looks, moments: Mapping[str, MomentColumn]) -> RunningRows | None:
    """A job that has a start and no end runs, where no column has its state."""
    started = _of(moments, Moment.STARTED)
    finished = _of(moments, Moment.FINISHED)
    if not started or not finished:
        return None
    start, end = started[0], finished[0]
    keys = frozenset(key for key in looks.rows if key in start.at and looks.rows[key][end.name] is None)
    where = [{"column": start.name, "is": "not null"}, {"column": end.name, "is": "null"}]
    why = "no column has the state of a job: it runs from its start to its end"
    return RunningRows(None, (), where, why, bool(looks.rows) and not _state_columns(looks), keys)


def _by_name_alone(looks: Looks) -> RunningRows | None:
    """A column of texts that is named as a state, and that has no value in the rows that were read."""
    column = next((column for column in _state_columns(looks) if column.family == "text"), None)
    why = "no value of it was seen, so the word is a guess"
    return RunningRows(column, ["running"], (), why, False, frozenset()) if column is not None else None


def _also(
    moments: Mapping[str, MomentColumn],
    running: Sequence[StateClass],
    rest: Sequence[StateClass],
    keys: frozenset[Key],
) -> list[dict[str, str]]:
    """Where waiting jobs have the same value as running ones, those that have started."""
    if all(one.word is StateMeaning.RUNNING for one in running) or not keys:
        return []
    started = _of(moments, Moment.STARTED)
    waiting = [key for key in keys if started and key not in started[0].at]
    if not waiting or any(one.word is StateMeaning.WAITING for one in rest):
        return []
    return [{"column": started[0].name, "is": "not null"}]


def _of(moments: Mapping[str, MomentColumn], role: Moment) -> list[MomentColumn]:
    return [moment for moment in moments.values() if moment.role is role]


def _has_error(looks: Looks, keys: frozenset[Key]) -> bool:
    errors = [name for name in looks.table.columns if {"error", "err", "exception", "failure"} & set(words(name))]
    return any(looks.rows[key][name] is not None for key in keys for name in errors)


def _in_the_case_of(word: str, others: Sequence[str]) -> str:
    if others and all(other.isupper() for other in others):
        return word.upper()
    return word.capitalize() if others and all(other[:1].isupper() for other in others) else word
