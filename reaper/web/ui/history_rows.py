"""What has happened: jobs that were ended, late signs, sweeps, changes. Lines for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.common import messages
from reaper.model import LateSign
from reaper.observers.history import AuditEntry, EndedRecord, LateRecord, SweepRecord
from reaper.web.ui.formatting import Text, When, ago, brief, duration, link, text, visible


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A job that was ended: by a sweep when `by` is None, else by whom. `late`: it has shown life since."""

    source: str
    job: Text
    link: str
    kind: Text | None
    reason: str
    by: Text | None
    sweep_id: str
    why: str
    when: When
    late: bool


@dataclass(frozen=True, slots=True)
class LateRow:
    source: str
    job: Text
    link: str
    kind: Text | None
    told: str
    ended_for: str
    when: When


@dataclass(frozen=True, slots=True)
class SweptRow:
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
        by=text(ended.by) if ended.by else None,
        sweep_id=ended.sweep_id,
        why=ended_for(job.silence_seconds, job.witness, job.age_seconds),
        when=ago(ended.seconds_ago, job.reaped_at),
        late=any(found.source == ended.source and found.sign.key == job.key for found in late),
    )


def ended_for(silence: float | None, witness: str | None, age: float | None) -> str:
    """What a job was ended for, in few words."""
    heard = f", last heard from {visible(witness)}" if witness and witness != "start" else ""
    return f"silent for {duration(silence)}{heard}, running for {duration(age)}"


def late_row(late: LateRecord) -> LateRow:
    sign, name = late.sign, messages.format_key(late.sign.key)
    return LateRow(
        source=late.source,
        job=text(name),
        link=link(late.source, name),
        kind=text(sign.kind) if sign.kind is not None else None,
        told=_told(sign),
        ended_for=f"ended as {visible(sign.reason)}: "
        f"{ended_for(sign.silence_seconds, sign.last_witness, sign.age_seconds)}",
        when=ago(late.seconds_ago, sign.at),
    )


def _told(sign: LateSign) -> str:
    if sign.what == "event":
        return f"showed life after it was ended: {visible(sign.witness or 'a sign of life')}"
    then = f" instead of {visible(sign.status_then)}" if sign.status_then else ""
    finished = "finished" if sign.finished else "was changed"
    return f"{finished} after it was ended: its status is {visible(sign.status or 'unknown')}{then}"


def swept_row(swept: SweepRecord) -> SweptRow:
    counts = (("lost", swept.lost), ("locked", swept.locked), ("refused", swept.refused), ("late", swept.late))
    told = [f"{number} {name}" for name, number in counts if number]
    return SweptRow(
        source=swept.source,
        sweep_id=swept.sweep_id,
        outcome=swept.outcome.value,
        when=ago(swept.seconds_ago, swept.judged_at),
        took=brief(swept.duration_seconds),
        reaped=swept.reaped,
        stale=str(swept.census.stale) if swept.census else "–",
        more=visible("; ".join([*told, *([swept.error] if swept.error else [])])),
    )


def change_row(changed: AuditEntry) -> ChangeRow:
    change = changed.change
    details = ", ".join(_detail(name, value) for name, value in change.details.items() if _says(name, value))
    target = f" {change.target}" if change.target else ""
    return ChangeRow(
        when=ago(changed.seconds_ago),
        who=text(change.who),
        remote=visible(change.remote),
        what=text(f"{change.action}{target}{f' ({details})' if details else ''}"),
        result=text(change.result),
    )


def _says(name: str, value: object) -> bool:
    """Whether a detail tells more than the change itself does. The source is its target."""
    return name != "source" and value is not None and value is not False


def _detail(name: str, value: object) -> str:
    return name if value is True else f"{name} {value}"
