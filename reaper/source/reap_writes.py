"""An ended job without what its end wrote: that is no sign of life, and must not look like one to people.

Rows that are audit events of the reaper are left out by the database. What else a reap writes (columns of the job's own
row, other rows, whatever triggers write) is known by its moment: from the last judgement to the audit event. Each sign
of such a moment is replaced by the one that the reap found before, as its evidence has it.

Limitation: a sign of life that a worker writes within a second after the end of its job is taken for the reap's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from reaper.model import Evidence, Verdict
from reaper.source.audit_trail import AuditEvent
from reaper.sql import expressions as sql
from reaper.staleness.rule import START, Rule

_ROUNDING_SECONDS = 1.0
"""By how much what a reap wrote may be earlier or later than its evidence and its audit event say: columns round their
moments up or down, and triggers have clocks of their own.
"""


def signs_without_reaps_query(rule: Rule) -> Select[Any]:
    """The newest sign of each witness of the jobs of a batch, without the reaper's audit events, as a document."""
    rule = rule.without_reaps()
    tables, jobs = rule.tables, rule.tables.jobs
    witnesses = [witness.witness for witness in tables.profile.alive]
    signs = sql.json_object(dict(zip(witnesses, rule.newest_signs(jobs), strict=True)))
    return select(signs).select_from(rule.from_jobs(jobs)).where(tables.is_job(jobs), tables.key_in_batch(jobs))


def without_reaps(evidence: Evidence, signs: Mapping[str, str | None], audits: Sequence[AuditEvent]) -> Evidence:
    """The evidence on an ended job with these signs, of which those are replaced that its reaps wrote.

    A job that runs is as the rule judges it.
    """
    if evidence.verdict is not Verdict.ENDED:
        return evidence
    found = dict(signs)
    for audit in sorted(audits, key=_judged_at, reverse=True):
        before = audit.evidence.get("signs")
        found = {name: _unless_written(name, at, audit, before) for name, at in found.items()}
    current = next((audit for audit in audits if _same_run(evidence, audit)), None)
    if current is not None and isinstance(before := current.evidence.get("signs"), Mapping):
        # A reap may have written over the last sign of life.
        found = {name: _newer(at, before.get(name)) for name, at in found.items()}
    return _with_signs(evidence, found)


def _judged_at(audit: AuditEvent) -> float:
    moment = _moment(audit.evidence.get("judged_at"))
    return moment.timestamp() if moment else 0.0


def _same_run(evidence: Evidence, audit: AuditEvent) -> bool:
    return evidence.started is not None and audit.evidence.get("started") == evidence.started


def _unless_written(name: str, at: str | None, audit: AuditEvent, before: object) -> str | None:
    """The sign, or the one before it where this reap wrote it."""
    moment, judged = _moment(at), _moment(audit.evidence.get("judged_at"))
    written = _moment(audit.written_at) or judged
    if moment is None or judged is None or written is None:
        return at
    since, until = judged.timestamp() - _ROUNDING_SECONDS, max(judged, written).timestamp() + _ROUNDING_SECONDS
    # A sign of the job itself, from just before the end, stands in the evidence: it is put in its own place.
    if not since <= moment.timestamp() <= until:
        return at
    earlier = before.get(name) if isinstance(before, Mapping) else None
    return earlier if isinstance(earlier, str) else None


def _newer(at: str | None, other: object) -> str | None:
    first, second = _moment(at), _moment(other)
    if second is None or (first is not None and first >= second):
        return at
    return other if isinstance(other, str) else at


def _with_signs(evidence: Evidence, signs: Mapping[str, str | None]) -> Evidence:
    """The evidence, whose last sign is the newest of these, else the start."""
    known = [(moment, witness, at) for witness, at in signs.items() if (moment := _moment(at)) is not None]
    started = _moment(evidence.started)
    newest = max(known, key=lambda sign: sign[0], default=None)
    if newest is None or (started is not None and newest[0] <= started):
        last, witness, at = started, START, evidence.started
    else:
        last, witness, at = newest
    now = _moment(evidence.judged_at)
    silence = None if now is None or last is None else (now - last).total_seconds()
    return replace(evidence, signs=dict(signs), last_sign=at, witness=witness, silence_seconds=silence)


def _moment(text: object) -> datetime | None:
    """A moment as the database wrote it; None for none, for infinity and for years that Python does not have."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
