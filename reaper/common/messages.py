"""Sentences for people about the model's values: verdicts, counts, row holders, late signs of life, audit events."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from reaper.common.durations import format_duration
from reaper.model import Evidence, JobCounts, Key, LateSign, LockHolder, Verdict

FIRST_SEEN = "first seen by the reaper"
"""What evidence names in the place of the column with the start, for a job without one."""

_LINE_END = "\r\n"


def format_key(key: Key) -> str:
    """A job's name, as the command line and the API take it: the values of its key with commas between them."""
    if len(key) == 1:
        return key[0]
    line = io.StringIO(newline="")
    # A value with a character of the line's end is quoted.
    csv.writer(line, lineterminator=_LINE_END).writerow(key)
    return line.getvalue().removesuffix(_LINE_END)


def parse_key(name: str, width: int) -> Key:
    """The key of `width` columns that a name gives. Raises ValueError for another number of values."""
    if width == 1:
        return (name,)
    try:
        columns = tuple(next(csv.reader([name]), []))
    except csv.Error:
        columns = ()
    if len(columns) != width:
        raise ValueError(
            f"expected the {width} values of its key with commas between them, and a value that has a comma in "
            "double quotes"
        )
    return columns


def format_optional_duration(seconds: float | None) -> str:
    """For a table's cell: empty for None, which is an unknown or infinite duration."""
    if seconds is None:
        return ""
    return format_duration(seconds) if seconds >= 0 else "in the future"


def format_known_duration(evidence: Evidence, seconds: float | None) -> str:
    """The age or the silence of a job, for a table's cell."""
    return "unknown" if seconds is None and evidence.unknown is not None else format_optional_duration(seconds)


def _duration(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else format_duration(max(0.0, seconds))


def describe_age(evidence: Evidence) -> str:
    """For how long a job has been running, in a sentence: a start in the future is said to be that."""
    age, started = evidence.age_seconds, evidence.started
    if started is None:
        return "without a start: it counts from when a sweep of the daemon first sees it"
    if _age_is_unknown(evidence):
        return "for an unknown time"
    if age is None or age < 0:
        return f"although its start ({evidence.started_from}) is in the future, at {started}"
    if evidence.started_from == FIRST_SEEN:
        return f"for {_duration(age)} since the reaper first saw it, as it has no start"
    return f"for {_duration(age)}"


def describe_distance(seconds: float) -> str:
    """How long ago a moment was, or that it is in the future."""
    return f"{format_duration(seconds)} ago" if seconds >= 0 else f"in the future by {format_duration(-seconds)}"


def describe_verdict(evidence: Evidence) -> str:
    """Why a job got its verdict; of a job past its timeout also which worker holds it, where that is known."""
    why = _describe_verdict(evidence)
    is_named = evidence.worker is None or evidence.worker_lost is not None
    names_worker = not is_named and evidence.verdict in (Verdict.STALE, Verdict.SPARED)
    return f"{why}; its worker is {evidence.worker}" if names_worker else why


def _describe_verdict(evidence: Evidence) -> str:
    timeout, stall = format_duration(evidence.timeout_seconds), format_duration(evidence.stall_seconds)
    age, silence = describe_age(evidence), _duration(evidence.silence_seconds)
    past = f"running {age}" if _age_is_unknown(evidence) else f"past its timeout of {timeout}"
    match evidence.verdict:
        case Verdict.ENDED:
            return _describe_end(evidence)
        case Verdict.YOUNG if _has_no_age(evidence):
            return f"running {age}; {evidence.unknown}" if evidence.unknown else f"running {age}"
        case Verdict.YOUNG:
            return f"running {age}, within its timeout of {timeout}"
        case Verdict.STALE if evidence.worker_lost is not None:
            why = f"its worker {evidence.worker} is gone: {evidence.worker_lost}; running {age}"
            return f"{why}; its action is {evidence.action}" if evidence.action else why
        case Verdict.STALE:
            why = f"no sign of life for {silence} (stall window {stall}) after running {age} (timeout {timeout})"
            why = f"{why}; {ahead}" if (ahead := _describe_future_sign(evidence)) else why
            return f"{why}; its action is {evidence.action}" if evidence.action else why
        case Verdict.SPARED if spared_as_unknown(evidence):
            return f"{past} and silent for {silence}, but it may be alive: {evidence.unknown}"
        case Verdict.SPARED if spared_by_downtime(evidence):
            return (
                f"past its timeout of {timeout} and silent for {silence}, but workers could report "
                f"for less than a stall window ({stall}) of that silence"
            )
    if ahead := _describe_future_sign(evidence):
        return f"{past}, and {ahead}: {silence} ago (stall window {stall})"
    return f"{past}, but alive: {evidence.witness} {silence} ago (stall window {stall})"


def _age_is_unknown(evidence: Evidence) -> bool:
    """What is read as the start of the job is not it."""
    return evidence.age_seconds is None and evidence.started is not None and evidence.unknown is not None


def _has_no_age(evidence: Evidence) -> bool:
    return evidence.started is None or evidence.age_seconds is None or evidence.age_seconds < 0


def _describe_future_sign(evidence: Evidence) -> str | None:
    """None for a job without one."""
    if evidence.future_sign is None:
        return None
    return f"its sign of life in the future ({evidence.future_sign}) counts from when the reaper first saw it"


def _describe_end(evidence: Evidence) -> str:
    if evidence.ended_by is not None:
        at = f" at {evidence.ended_at}" if evidence.ended_at else ""
        return f"the entry {evidence.ended_by}{at} ended it"
    if evidence.start_lost:
        silence = _duration(evidence.silence_seconds)
        return f"its start was lost, and its newest entry is {silence} old: it no longer counts as running"
    return " and ".join(evidence.not_running) or "it does not run any more"


def spared_by_downtime(evidence: Evidence) -> bool:
    """A silent job is spared only because the database was unreachable for workers during the silence."""
    return is_silent(evidence) and evidence.unknown is None


def spared_as_unknown(evidence: Evidence) -> bool:
    """A job without a known recent sign of life is spared because something of it is unknown: a witness could not be
    asked, or its moments are not known.
    """
    return is_silent(evidence) and evidence.unknown is not None


def is_silent(evidence: Evidence) -> bool:
    """A job is spared although it has been silent for longer than its stall window, or its silence is unknown."""
    silence = evidence.silence_seconds
    silent = evidence.unknown is not None if silence is None else silence > evidence.stall_seconds
    return silent and evidence.verdict is Verdict.SPARED


def stale_in_is_unknown(evidence: Evidence) -> bool:
    """When a running job becomes stale is unknown: it would be stale by now, if what is unknown had nothing to say, or
    its age or its silence is unknown.
    """
    if evidence.unknown is None or evidence.verdict not in (Verdict.YOUNG, Verdict.SPARED):
        return False
    return evidence.stale_in_seconds is None or evidence.stale_in_seconds <= 0


def format_stale_in(evidence: Evidence) -> str:
    """When a job becomes stale, for a column of a table."""
    return "unknown" if stale_in_is_unknown(evidence) else format_optional_duration(evidence.stale_in_seconds)


def describe_outlook(evidence: Evidence) -> str | None:
    """When a running job becomes stale; None for a job that is stale already, or that is not running."""
    if stale_in_is_unknown(evidence):
        return f"when it becomes stale is unknown: {evidence.unknown}"
    if evidence.stale_in_seconds is None:
        return None
    return f"stale in {format_duration(evidence.stale_in_seconds)} if it shows no further sign of life"


def describe_missing_sign(evidence: Evidence) -> str:
    """What is said of a witness without a sign of life."""
    return "none" if evidence.unknown is None or evidence.silence_seconds is not None else "none, or unknown"


def describe_holder(holder: LockHolder | None) -> str:
    """The session that holds the lock on a row; None where it has ended meanwhile, or the role may not see it."""
    if holder is None:
        return "a session that has released it meanwhile or cannot be seen"
    if holder.pid is None and holder.state is None:
        return "one of several sessions, which cannot be told apart"
    process = f"process {holder.pid}" if holder.pid else "no process"
    details = ", ".join(filter(None, (holder.application, holder.user and f"user {holder.user}", holder.state)))
    return f"{process}{f' ({details})' if details else ''}{f' since {holder.since}' if holder.since else ''}"


def describe_lock(holder: LockHolder | None) -> str:
    """Which row of a job is locked, and by which session: its own row, or one that belongs to it."""
    row = "its row" if holder is None or holder.table is None else f"a row of {holder.table} that belongs to it"
    return f"{row} is locked by {describe_holder(holder)}"


def describe_counts(counts: JobCounts) -> str:
    """The numbers of running, spared and stale jobs."""
    text = (
        f"{counts.running} running, {counts.past_timeout} past their timeout: "
        f"{counts.spared} spared, {counts.stale} stale"
    )
    if counts.worker_lost:
        text += f" ({counts.worker_lost} of these because their worker is gone)"
    if counts.without_start:
        text += f"; {counts.without_start} without a start, which count from when the reaper first saw them"
        if counts.start_unknown:
            text += f" ({counts.start_unknown} of these are young, as no sweep has noted them)"
    return text


def describe_late_sign(sign: LateSign) -> str:
    """Why a job was ended, and which sign of life came after that."""
    last = f", last sign of life from {sign.last_witness}" if sign.last_witness else ""
    ended = f"ended as {sign.reason} at {sign.reaped_at} after {_duration(sign.silence_seconds)} of silence{last}"
    late = f"{sign.witness or 'an end'} at {sign.at}" if sign.at else None
    if sign.what == "event":
        return f"{ended}; since then {late or f'an entry {sign.status} in its log'}"
    if sign.status != sign.status_then:
        became = f"its status is {sign.status}, not {sign.status_then}"
    else:
        became = f"it has ended again as {sign.status}" if sign.finished else "its row says that it is running"
    return f"{ended}; since then {became}{f' ({late})' if late else ''}"


def describe_audit(event: Mapping[str, Any]) -> str:
    """The contents of an audit event. Other programs write events of the same name: missing members are left out."""

    def text(name: str, before: str) -> str | None:
        return f"{before}{event[name]}" if event.get(name) is not None else None

    def duration(name: str, before: str, limit: str, limit_name: str) -> str | None:
        seconds, limit_seconds = event.get(name), event.get(limit)
        if not isinstance(seconds, (int, float)):
            return None
        words = f"{before}{format_duration(seconds)}"
        if isinstance(limit_seconds, (int, float)):
            words += f" ({limit_name} {format_duration(limit_seconds)})"
        return words

    parts = (
        text("reason", ""),
        text("message", ""),
        text("judged_at", "at "),
        duration("silence_seconds", "silent for ", "stall_seconds", "stall window"),
        duration("age_seconds", "running for ", "timeout_seconds", "timeout"),
        text("witness", "last sign of life from "),
        text("action", "action "),
        text("operator", "by "),
        text("sweep_id", "sweep "),
        text("host", "on "),
    )
    return ", ".join(part for part in parts if part) or "an event without evidence, not written by the reaper"
