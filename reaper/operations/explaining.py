"""Everything that is known of one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper import words
from reaper.hearing import Hearing
from reaper.model import Evidence, Holder, Key, ReaperError
from reaper.rule import Moment
from reaper.source import Source, Trouble, holder_of, in_one_line, trouble


class NoSuchJob(ReaperError):
    """No source has a job of that name."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job, who holds its row, and what earlier reaps of it wrote, newest first."""

    evidence: Evidence
    holder: Holder | None
    audits: Sequence[Mapping[str, Any]]


def locate(source: Source, name: str) -> Key:
    """The key of the job that is written so. Raises NoSuchJob, saying why not, DatabaseAway and DBAPIError."""
    wanted = _wanted(source, name)
    with source.connect() as connection:
        return _found(source, connection, name, wanted, inf)


def explain(source: Source, hearing: Hearing, key: Key) -> Explanation:
    """Raises NoSuchJob when it is gone, DatabaseAway and DBAPIError."""
    with source.connect() as connection:
        return _explained(source, connection, source.consult(source.meet(connection, hearing)), key, inf)


def explain_named(source: Source, hearing: Hearing, name: str, at_most: float) -> Explanation:
    """Both on one connection; a statement may take `at_most` seconds. Raises as `locate` does."""
    wanted = _wanted(source, name)
    with source.connect() as connection:
        moment = source.consult(source.meet(connection, hearing))
        key = _found(source, connection, name, wanted, at_most)
        return _explained(source, connection, moment, key, at_most)


def _wanted(source: Source, name: str) -> Key:
    if "\0" in name:
        raise NoSuchJob("no job has a name with a NUL in it")
    try:
        return words.key(name, len(source.profile.jobs.key))
    except ValueError as error:
        raise NoSuchJob(f"there is no job {name}: {error}") from None


def _found(source: Source, connection: Connection, name: str, wanted: Sequence[str], at_most: float) -> Key:
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            key = source.reading.find(connection, wanted)
    except DBAPIError as error:
        if trouble(error) is not Trouble.ROW:
            raise
        raise NoSuchJob(f"there is no job {name}: {in_one_line(error)}") from None
    if key is None:
        raise NoSuchJob(f"there is no job {name}")
    return key


def _explained(source: Source, connection: Connection, moment: Moment, key: Key, at_most: float) -> Explanation:
    with source.transaction(connection, read_only=True, at_most=at_most):
        found = source.reading.evidence(connection, moment, [key])
        if not found:
            raise NoSuchJob(f"job {words.job(key)} has just been deleted")
        holder = holder_of(connection, source.rule.schema, key)
        return Explanation(found[0], holder, source.reading.audits(connection, key))
