"""Everything that is known of one job."""

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
from reaper.model import Evidence, Key, LockHolder
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job, who holds its row, and what earlier reaps of it wrote, newest first."""

    evidence: Evidence
    holder: LockHolder | None
    audits: Sequence[Mapping[str, Any]]


def locate(source: Source, name: str) -> Key:
    """The key of the job that is written so. Raises NoSuchJob, saying why not, DatabaseAway and DBAPIError."""
    wanted = _wanted(source, name)
    with source.connect() as connection:
        return _found(source, connection, name, wanted, inf)


def explain(source: Source, downtime: DowntimeTracker, key: Key) -> Explanation:
    """Raises NoSuchJob when it is gone, DatabaseAway and DBAPIError."""
    with source.connect() as connection:
        return _explained(source, connection, source.ask_probe(source.begin_evaluation(connection, downtime)), key, inf)


def explain_named(source: Source, downtime: DowntimeTracker, name: str, at_most: float) -> Explanation:
    """Both on one connection; a statement may take `at_most` seconds. Raises as `locate` does."""
    wanted = _wanted(source, name)
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        key = _found(source, connection, name, wanted, at_most)
        return _explained(source, connection, context, key, at_most)


def _wanted(source: Source, name: str) -> Key:
    if "\0" in name:
        raise NoSuchJob("no job has a name with a NUL in it")
    try:
        return messages.parse_key(name, len(source.profile.jobs.key))
    except ValueError as error:
        raise NoSuchJob(f"there is no job {name}: {error}") from None


def _found(source: Source, connection: Connection, name: str, wanted: Sequence[str], at_most: float) -> Key:
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            key = source.lookup.find(connection, wanted)
    except DBAPIError as error:
        if classify(error) is not ErrorKind.ROW:
            raise
        raise NoSuchJob(f"there is no job {name}: {short_message(error)}") from None
    if key is None:
        raise NoSuchJob(f"there is no job {name}")
    return key


def _explained(
    source: Source, connection: Connection, context: EvaluationContext, key: Key, at_most: float
) -> Explanation:
    with source.transaction(connection, read_only=True, at_most=at_most):
        found = source.lookup.evidence(connection, context, [key])
        if not found:
            raise NoSuchJob(f"job {messages.format_key(key)} has just been deleted")
        holder = source.lock_holder(connection, key)
        return Explanation(found[0], holder, source.lookup.audits(connection, key))
