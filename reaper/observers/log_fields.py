"""The fields of log lines about jobs."""

from __future__ import annotations

from typing import Any

from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.model import (
    DowntimeNotice,
    Evidence,
    FutureSigns,
    LateSign,
    LockedCandidate,
    PurgeReport,
    ReapedJob,
    SweepReport,
)


def reaped_job_fields(job: ReapedJob) -> dict[str, Any]:
    """`evidence` is there only where no audit event holds it, `deleted` only where rows of the job were deleted."""
    return {
        "job": messages.format_key(job.key),
        "kind": job.kind,
        "reason": job.reason,
        "action": job.action,
        "age_seconds": job.age_seconds,
        "silence_seconds": job.silence_seconds,
        "witness": job.witness,
        **({"evidence": dict(job.evidence)} if job.evidence else {}),
        **({"deleted": to_jsonable(job.deleted)} if job.deleted else {}),
    }


def is_kept_by_log(job: ReapedJob) -> bool:
    """Whether the log keeps what is nowhere else: the evidence of the job, or its deleted rows."""
    return bool(job.evidence or job.deleted)


def spared_job_fields(evidence: Evidence) -> dict[str, Any]:
    """`unknown` is there only for a job that was spared because a witness could not be asked."""
    return {
        "job": messages.format_key(evidence.key),
        "kind": evidence.kind,
        "age_seconds": evidence.age_seconds,
        "silence_seconds": evidence.silence_seconds,
        "timeout_seconds": evidence.timeout_seconds,
        "witness": evidence.witness,
        **({"unknown": evidence.unknown} if evidence.unknown is not None else {}),
    }


def would_reap_fields(evidence: Evidence) -> dict[str, Any]:
    """Of a stale job of a source that is only observed."""
    return {
        "job": messages.format_key(evidence.key),
        "kind": evidence.kind,
        "age_seconds": evidence.age_seconds,
        "silence_seconds": evidence.silence_seconds,
        "witness": evidence.witness,
        "why": messages.describe_verdict(evidence),
    }


def downtime_fields(notice: DowntimeNotice) -> dict[str, Any]:
    """`away_from` is None where it is not known."""
    return {
        "away_from": notice.away_from,
        "silence_counts_from": notice.silence_counts_from,
        "nothing_before": notice.nothing_before,
        "why": f"the database was away: {notice.why}",
    }


def future_sign_fields(found: FutureSigns) -> dict[str, Any]:
    """How many jobs, and the first of them. `at` is its newest sign, as it is stored."""
    return {
        "jobs": found.jobs,
        "complete": found.complete,
        "job": found.job,
        "witness": found.witness,
        "at": found.state,
        "remedy": "set the clock of the worker that wrote it, or correct the row",
    }


def late_sign_fields(sign: LateSign) -> dict[str, Any]:
    """Why the job was ended, and what it did afterwards."""
    return {
        "job": messages.format_key(sign.key),
        "kind": sign.kind,
        "reason": sign.reason,
        "reaped_at": sign.reaped_at,
        "age_seconds": sign.age_seconds,
        "silence_seconds": sign.silence_seconds,
        "witness": sign.last_witness,
        "what": sign.what,
        "late_witness": sign.witness,
        "late_at": sign.at,
        "status": sign.status,
        "status_then": sign.status_then,
        "finished": sign.finished,
        "told_before": sign.told_before,
        "why": messages.describe_late_sign(sign),
    }


def locked_job_fields(locked: LockedCandidate) -> dict[str, Any]:
    """The job, and the session that holds the lock where it is known."""
    holder = locked.holder
    return {
        "job": messages.format_key(locked.key),
        "held_seconds": round(locked.held_seconds),
        "pid": holder.pid if holder else None,
        "application": holder.application if holder else None,
        "user": holder.user if holder else None,
        "state": holder.state if holder else None,
        "since": holder.since if holder else None,
    }


def sweep_fields(report: SweepReport) -> dict[str, Any]:
    """The counts of a sweep that ended jobs."""
    return {
        "reaped": report.reaped,
        "lost": report.lost,
        "locked": report.locked_total,
        "refused": report.refused_now,
        "seconds": round(report.duration_seconds, 3),
        "sweep_id": report.sweep_id,
    }


def purge_fields(report: PurgeReport) -> dict[str, Any]:
    """The counts of a purge."""
    return {
        "purged": report.purged,
        "before": report.before,
        "left": report.left,
        "refused": sum(report.refusals.values()),
        "outcome": report.outcome.value,
        "seconds": round(report.duration_seconds, 3),
    }
