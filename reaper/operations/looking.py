"""One source's running jobs at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.hearing import Hearing
from reaper.model import Census, Evidence, Holder, Key, Verdict
from reaper.operations.orphans import Orphan
from reaper.source import Source, Trouble, holder_of, in_one_line, trouble, with_stale
from reaper.source.taken import Taken, find_taken
from reaper.witness import Testimony

SHOWN = 50
"""How many jobs are named where nobody said how many."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the running jobs to show: those after the first `offset`, at most `limit`."""

    verdict: Verdict | None
    kind: str | None
    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One source at one moment. `found` tells whether a stale job is among those asked for, shown or not.

    `testimony` is what Celery's workers said, where they are asked, and `orphans` what belongs to
    no job; None when nobody knows. `taken` tells rows that stand at a value which exists already; None when that could
    not be told, and `notes` then says why.
    """

    census: Census
    jobs: Sequence[Evidence]
    holders: dict[Key, Holder]
    more: bool
    found: bool
    testimony: Testimony | None = None
    orphans: Sequence[Orphan] | None = None
    taken: Sequence[Taken] | None = None
    notes: Sequence[str] = ()


def look(source: Source, hearing: Hearing, wanted: Wanted, *, at_most: float = inf) -> Report:
    """Everything of one source but its orphans; a statement may take `at_most` seconds.

    Raises DatabaseAway and DBAPIError.
    """
    reading, survey = source.reading, source.survey
    with source.connect() as connection:
        moment = source.consult(source.meet(connection, hearing))
        with source.transaction(connection, read_only=True, at_most=at_most):
            census = with_stale(survey.census(connection, moment), survey.count_stale(connection, moment))
            keys = reading.keys(
                connection,
                moment,
                verdict=wanted.verdict,
                kind=wanted.kind,
                limit=wanted.limit + 1,
                offset=wanted.offset,
            )
            jobs = reading.evidence(connection, moment, keys[: wanted.limit])
            holders = _holders(source, connection, jobs)
            found = census.stale > 0 and (
                wanted.kind is None
                or bool(reading.keys(connection, moment, verdict=Verdict.STALE, kind=wanted.kind, limit=1))
            )
        taken, notes = _taken(source, connection, at_most)
    return Report(census, jobs, holders, len(keys) > wanted.limit, found, moment.testimony, taken=taken, notes=notes)


def overdue(source: Source, hearing: Hearing, limit: int = SHOWN, *, at_most: float = inf) -> Report:
    """The jobs past their timeout, stale and spared, oldest first; a statement may take `at_most` seconds.

    Raises DatabaseAway and DBAPIError.
    """
    with source.connect() as connection:
        moment = source.consult(source.meet(connection, hearing))
        with source.transaction(connection, read_only=True, at_most=at_most):
            stale = source.survey.count_stale(connection, moment)
            census = with_stale(source.survey.census(connection, moment), stale)
            keys = source.reading.overdue(connection, moment, limit + 1)
            jobs = source.reading.evidence(connection, moment, keys[:limit])
            holders = _holders(source, connection, jobs)
    return Report(census, jobs, holders, len(keys) > limit, stale > 0, moment.testimony)


def kinds(source: Source, *, at_most: float = inf) -> Sequence[tuple[str | None, int]]:
    """How many jobs of each kind run, most first. Raises DatabaseAway and DBAPIError."""
    with source.connect() as connection, source.transaction(connection, read_only=True, at_most=at_most):
        return source.survey.kinds(connection)


def _holders(source: Source, connection: Connection, jobs: Sequence[Evidence]) -> dict[Key, Holder]:
    """Who holds the rows of those that are stale."""
    stale = [job.key for job in jobs if job.verdict is Verdict.STALE]
    found = {key: holder_of(connection, source.rule.schema, key) for key in stale}
    return {key: holder for key, holder in found.items() if holder}


def _taken(source: Source, connection: Connection, at_most: float) -> tuple[list[Taken] | None, list[str]]:
    """In a transaction of its own: the role may not read the table, which is no reason to tell nothing of the jobs."""
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            return find_taken(connection, source.rule.schema), []
    except DBAPIError as error:
        if trouble(error) is Trouble.AWAY:
            raise
        return None, [f"whether a next run exists already could not be told: {in_one_line(error)}"]
