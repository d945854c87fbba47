"""The model's values in words, for people: what a verdict rests on, what comes next, who holds a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from reaper.common.durations import format_duration
from reaper.model import Evidence, JobCounts, Key, LateSign, LockHolder, Verdict


def format_key(key: Key) -> str:
    """A job's name as it is written on the command line: the key's columns with commas between them."""
    if len(key) == 1:
        return key[0]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(key)
    return line.getvalue()


def parse_key(name: str, width: int) -> Key:
    """The key that `job` writes so. Raises ValueError, in words, for a wrong number of columns."""
    if width == 1:
        return (name,)
    try:
        columns = tuple(next(csv.reader([name]), []))
    except csv.Error:
        columns = ()
    if len(columns) != width:
        raise ValueError(f"expected the {width} values of its key with commas between them")
    return columns


def format_optional_duration(seconds: float | None) -> str:
    """For a table's cell: empty where it is not known, or infinite."""
    return "" if seconds is None else format_duration(seconds)


def _known(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else format_duration(seconds)


def describe_verdict(evidence: Evidence) -> str:
    """The verdict's reason."""
    timeout, stall = format_duration(evidence.timeout_seconds), format_duration(evidence.stall_seconds)
    age, silence = _known(evidence.age_seconds), _known(evidence.silence_seconds)
    match evidence.verdict:
        case Verdict.ENDED:
            return f"its status is {evidence.status}"
        case Verdict.YOUNG:
            return f"running for {age}, within its timeout of {timeout}"
        case Verdict.STALE:
            return f"no sign of life for {silence} (stall window {stall}) after running for {age} (timeout {timeout})"
        case Verdict.SPARED if spared_as_unknown(evidence):
            return f"past its timeout of {timeout} and silent for {silence}, but it may be alive: {evidence.unknown}"
        case Verdict.SPARED if spared_by_downtime(evidence):
            return (
                f"past its timeout of {timeout} and silent for {silence}, but not for a whole stall window of {stall} "
                "in which it could be heard"
            )
    return f"past its timeout of {timeout}, but alive: {evidence.witness} {silence} ago (stall window {stall})"


def spared_by_downtime(evidence: Evidence) -> bool:
    """It is silent, and spared only because the database could not have been told."""
    return _silent(evidence) and evidence.unknown is None


def spared_as_unknown(evidence: Evidence) -> bool:
    """It is silent, and spared because a witness could not be asked."""
    return _silent(evidence) and evidence.unknown is not None


def _silent(evidence: Evidence) -> bool:
    silent = evidence.silence_seconds is not None and evidence.silence_seconds > evidence.stall_seconds
    return silent and evidence.verdict is Verdict.SPARED


def describe_outlook(evidence: Evidence) -> str | None:
    """When a running job becomes stale; None for one that is, or that does not run."""
    if evidence.stale_in_seconds is None:
        return None
    return f"stale in {format_duration(evidence.stale_in_seconds)} if it shows no further sign of life"


def describe_holder(found: LockHolder | None) -> str:
    """Who holds a row."""
    if found is None:
        return "somebody, who has let it go again or cannot be seen"
    who = f"process {found.pid}" if found.pid else "no process"
    known = (found.application, f"user {found.user}" if found.user else None, found.state)
    details = ", ".join(word for word in known if word)
    return f"{who}{f' ({details})' if details else ''}{f' since {found.since}' if found.since else ''}"


def describe_counts(counted: JobCounts) -> str:
    return (
        f"{counted.running} running, {counted.past_timeout} past their timeout: "
        f"{counted.spared} spared, {counted.stale} stale"
    )


def describe_late_sign(sign: LateSign) -> str:
    """What a job was ended for, and what it did then."""
    last = f", last heard of by {sign.last_witness}" if sign.last_witness else ""
    ended = f"ended as {sign.reason} at {sign.reaped_at} after {_known(sign.silence_seconds)} of silence{last}"
    heard = f"{sign.witness or 'an end'} at {sign.at}" if sign.at else None
    if sign.what == "event":
        return f"{ended}; since then {heard or f'an entry {sign.status} in its log'}"
    if sign.status != sign.status_then:
        became = f"its status is {sign.status}, not {sign.status_then}"
    else:
        became = f"it has ended again as {sign.status}" if sign.finished else "it says that it runs"
    return f"{ended}; since then {became}{f' ({heard})' if heard else ''}"


def describe_audit(written: Mapping[str, Any]) -> str:
    """What an audit event tells. Others write events of the same name: whatever is missing is left out."""

    def told(name: str, before: str) -> str | None:
        return f"{before}{written[name]}" if written.get(name) is not None else None

    def lasted(name: str, before: str, limit: str, called: str) -> str | None:
        seconds, bound = written.get(name), written.get(limit)
        if not isinstance(seconds, (int, float)):
            return None
        known = f" ({called} {format_duration(bound)})" if isinstance(bound, (int, float)) else ""
        return f"{before}{format_duration(seconds)}{known}"

    parts = (
        told("reason", ""),
        told("message", ""),
        told("judged_at", "at "),
        lasted("silence_seconds", "silent for ", "stall_seconds", "stall window"),
        lasted("age_seconds", "running for ", "timeout_seconds", "timeout"),
        told("witness", "last sign of life from "),
        told("action", "action "),
        told("operator", "by "),
        told("sweep_id", "sweep "),
        told("host", "on "),
    )
    return ", ".join(part for part in parts if part) or "an event without evidence, not written by the reaper"
