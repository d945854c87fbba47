"""Explains one job: its signs of life, its thresholds, the verdict, who holds its row, and earlier reaps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.common import messages
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.errors import NoSuchJob
from reaper.model import Evidence, JobCounts, JobHold, Key, LockHolder, Verdict
from reaper.source import Source
from reaper.source.reap_writes import without_reaps
from reaper.staleness.downtime import DowntimeTracker


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job, the session that has its row locked, or a row that belongs to it, and the audit events of earlier reaps,
    newest first. `census` counts the running jobs of the source, where it was asked for and the job is stale. `hold` is
    the hold of an operator on the job.
    """

    evidence: Evidence
    holder: LockHolder | None
    audits: Sequence[Mapping[str, Any]]
    census: JobCounts | None = None
    hold: JobHold | None = None


def locate(source: Source, name: str) -> Key:
    """The key of the job that is written as `name`: the values of its key with commas between them.

    Raises NoSuchJob, saying why; DatabaseUnavailable and DBAPIError.
    """
    key = _parse(source, name)
    with source.connect() as connection:
        return _locate(source, connection, name, key, inf)[1]


def explain(
    source: Source, downtime: DowntimeTracker, name: str, *, at_most: float = inf, counts: bool = False
) -> Explanation:
    """Locate a job and explain it, on one connection; a statement may take `at_most` seconds. With `counts`, count the
    jobs of the source where this one is stale.

    Workers are asked only when there is such a job. Raises as `locate` does.
    """
    parsed = _parse(source, name)
    with source.connect() as connection:
        view, key = _locate(source, connection, name, parsed, at_most)
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True, at_most=at_most):
            judged = view.lookup.evidence(connection, context, [key])
            if not judged:
                raise NoSuchJob(f"job {messages.format_key(key)} has just been deleted")
            is_counted = counts and judged[0].verdict is Verdict.STALE
            holds = source.known_holds(context)
            census = source.survey.census_with_stale(connection, context, holds) if is_counted else None
            audits = [*view.lookup.audit_events(connection, key), *source.kept_reaps(key)]
            evidence = judged[0]
            if evidence.verdict is Verdict.ENDED:
                signs = view.lookup.signs_without_reaps(connection, context, key)
                evidence = without_reaps(evidence, signs, audits)
        holders = source.lock_holders(connection, [key], at_most=at_most)
        return Explanation(evidence, holders.get(key), [audit.evidence for audit in audits], census, holds.get(key))


def _parse(source: Source, name: str) -> Key:
    if "\0" in name:
        raise NoSuchJob("no job has a name with a NUL in it")
    try:
        return messages.parse_key(name, len(source.profile.jobs.key))
    except ValueError as error:
        raise NoSuchJob(f"there is no job {name}: {error}") from None


def _locate(source: Source, connection: Connection, name: str, parsed: Key, at_most: float) -> tuple[Source, Key]:
    """The view of the source that has the job, and the key as the database spells it."""
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            keys = ((view, view.lookup.find(connection, parsed)) for view in source.views)
            view, key = next(((view, key) for view, key in keys if key is not None), (source, None))
    except DBAPIError as error:
        if classify(error) is not ErrorKind.ROW:
            raise
        raise NoSuchJob(f"there is no job {name}: {short_message(error)}") from None
    if key is None:
        raise NoSuchJob(f"there is no job {name}")
    return view, key
