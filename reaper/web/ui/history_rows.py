"""Rows of the page's history: ended jobs, late signs, sweeps and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.common import messages
from reaper.model import LateSign
from reaper.observers.history import AuditEntry, EndedRecord, LateRecord, SweepRecord
from reaper.web.ui.formatting import Text, When, ago, brief, duration, link, text, visible


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A job that was ended: by an operator, or by a sweep when `by` is None. `late`: it has shown life since."""

    source: str
    job: Text
    link: str
    kind: Text | None
    reason: str
    action: str
    by: Text | None
    sweep_id: str
    why: str
    when: When
    late: bool


@dataclass(frozen=True, slots=True)
class LateRow:
    """A late sign of life."""

    source: str
    job: Text
    link: str
    kind: Text | None
    sign: str
    ended_for: str
    when: When


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A sweep that has ended."""

    source: str
    sweep_id: str
    outcome: str
    when: When
    took: str
    reaped: int
    stale: str
    more: str


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A request over HTTP that was to change something, and its result."""

    when: When
    who: Text
    remote: str
    what: Text
    result: Text


def ended_row(ended: EndedRecord, late: Sequence[LateRecord]) -> EndedRow:
    job = ended.job
    name = messages.format_key(job.key)
    return EndedRow(
        source=ended.source,
        job=text(name),
        link=link(ended.source, name),
        kind=text(job.kind) if job.kind is not None else None,
        reason=visible(job.reason),
        action=visible(job.action),
        by=text(ended.by) if ended.by else None,
        sweep_id=ended.sweep_id,
        why=ended_for(job.silence_seconds, job.witness, job.age_seconds),
        when=ago(ended.seconds_ago, job.reaped_at),
        late=any(record.source == ended.source and record.sign.key == job.key for record in late),
    )


def ended_for(silence: float | None, witness: str | None, age: float | None) -> str:
    """The evidence for which a job was ended, in few words."""
    last = f", last heard from {visible(witness)}" if witness and witness != "start" else ""
    return f"silent for {duration(silence)}{last}, running for {duration(age)}"


def late_row(late: LateRecord) -> LateRow:
    sign, name = late.sign, messages.format_key(late.sign.key)
    return LateRow(
        source=late.source,
        job=text(name),
        link=link(late.source, name),
        kind=text(sign.kind) if sign.kind is not None else None,
        sign=_describe(sign),
        ended_for=f"ended as {visible(sign.reason)}: "
        f"{ended_for(sign.silence_seconds, sign.last_witness, sign.age_seconds)}",
        when=ago(late.seconds_ago, sign.at),
    )


def _describe(sign: LateSign) -> str:
    if sign.what == "event":
        return f"showed life after it was ended: {visible(sign.witness or 'a sign of life')}"
    then = f" instead of {visible(sign.status_then)}" if sign.status_then else ""
    finished = "finished" if sign.finished else "was changed"
    return f"{finished} after it was ended: its status is {visible(sign.status or 'unknown')}{then}"


def sweep_row(sweep: SweepRecord) -> SweepRow:
    counts = (("lost", sweep.lost), ("locked", sweep.locked), ("refused", sweep.refused), ("late", sweep.late))
    besides = [f"{number} {name}" for name, number in counts if number]
    return SweepRow(
        source=sweep.source,
        sweep_id=sweep.sweep_id,
        outcome=sweep.outcome.value,
        when=ago(sweep.seconds_ago, sweep.judged_at),
        took=brief(sweep.duration_seconds),
        reaped=sweep.reaped,
        stale=str(sweep.census.stale) if sweep.census else "–",
        more=visible("; ".join([*besides, *([sweep.error] if sweep.error else [])])),
    )


def change_row(entry: AuditEntry) -> ChangeRow:
    change = entry.change
    details = ", ".join(_detail(name, value) for name, value in change.details.items() if _is_shown(name, value))
    target = f" {change.target}" if change.target else ""
    return ChangeRow(
        when=ago(entry.seconds_ago),
        who=text(change.who),
        remote=visible(change.remote),
        what=text(f"{change.action}{target}{f' ({details})' if details else ''}"),
        result=text(change.result),
    )


def _is_shown(name: str, value: object) -> bool:
    """Whether a detail adds anything. The source is the target, which is shown already."""
    return name != "source" and value is not None and value is not False


def _detail(name: str, value: object) -> str:
    return name if value is True else f"{name} {value}"
