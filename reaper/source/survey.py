"""The survey: how many jobs run, which of them are stale, which are newly spared. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import CTE, Connection, FromClause, Integer, Select, case, func, literal, not_, or_, select, tuple_

from reaper.model import JobCounts, Key
from reaper.profile import Profile, Witness
from reaper.profile.columns import columns_judged
from reaper.source.statements import Query, SourceStatements
from reaper.source.survey_counts import count_query, newly_past_timeout, past_timeout_query
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import is_whole, key_parameters
from reaper.sql.statement import Values
from reaper.sql.tables import reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

MAX_READ, MAX_SPARED = "reaper_max_read", "reaper_max_spared"
"""Parameters of `newly_spared_query`; the first of `signs_query`, too."""


class Candidate(NamedTuple):
    """A stale job as the survey saw it. When it is locked, its `version` must still be the same.

    `never` is the pattern for kinds that are never ended which its kind matches: it is left alone.
    """

    key: Key
    version: tuple[Any, ...]
    never: str | None = None


class SurveyCounts(NamedTuple):
    """The counts of one pass over the running jobs. The census does not have the stale ones yet."""

    census: JobCounts
    newly_past_timeout: int


class JobSigns(NamedTuple):
    """A running job, and by the name of each of the `row_witnesses` whether it has any sign of life from it."""

    candidate: Candidate
    signs: Mapping[str, bool]


class Survey:
    """The survey of one source."""

    def __init__(self, statements: SourceStatements) -> None:
        self._statements, self._width = statements, len(statements.profile.jobs.key)
        self._has_never = statements.new_rule().has_never
        self.row_witnesses = tuple(witness.witness for witness in row_witnesses(statements.profile))
        """The witnesses whose signs are rows that belong to one job each."""

    def count(
        self, connection: Connection, context: EvaluationContext, previous: EvaluationContext | None
    ) -> SurveyCounts:
        """The counts; those newly past their timeout are past it only since the previous evaluation."""
        values = self._statements.values(context, previous)
        row = past = self._statements.execute(connection, values, count_query).one()
        if row.undecided:
            past = self._statements.execute(connection, values, past_timeout_query).one()
        most_overdue = float(row.most_overdue or 0) if past.past_timeout else 0.0
        counts = JobCounts(
            int(row.running),
            int(past.past_timeout),
            0,
            row.oldest,
            most_overdue,
            without_start=int(row.without_start),
            start_unknown=int(row.start_unknown),
        )
        return SurveyCounts(counts, int(past.crossed))

    def census(self, connection: Connection, context: EvaluationContext) -> JobCounts:
        """All counts except the stale jobs, which the candidates count."""
        return self.count(connection, context, None).census

    def census_with_stale(
        self, connection: Connection, context: EvaluationContext, holds: Collection[Key] = ()
    ) -> JobCounts:
        """All counts, by two reads of the running jobs. `holds` are the jobs that operators hold."""
        census = with_stale(self.census(connection, context), self.count_stale(connection, context))
        census = self.with_worker_lost(connection, context, census)
        if not census.stale or not (holds or self._has_never):
            return census
        return replace(census, kept=self._count_kept(connection, context, holds))

    def _count_kept(self, connection: Connection, context: EvaluationContext, holds: Collection[Key]) -> int:
        values = self._statements.values(context) | key_parameters(list(holds))
        queries = [*([never_count_query] if self._has_never else []), *([held_count_query] if holds else [])]
        if self._has_never and context.lost_workers.states:
            queries.append(never_lost_count_query)
        return sum(int(self._statements.execute(connection, values, query).scalar_one()) for query in queries)

    def count_stale(self, connection: Connection, context: EvaluationContext) -> int:
        counted = self._statements.execute(connection, self._statements.values(context), stale_count_query)
        return int(counted.scalar_one())

    def stream(self, connection: Connection, context: EvaluationContext) -> Iterator[Candidate]:
        """The candidates one after the other, never all in memory."""
        return self._streamed(connection, self._statements.values(context), candidates_query)

    def stream_lost(self, connection: Connection, context: EvaluationContext) -> Iterator[Candidate]:
        """The jobs that are stale only because their worker is gone."""
        if not context.lost_workers.states:
            return iter(())
        return self._streamed(connection, self._statements.values(context), lost_query)

    def with_worker_lost(self, connection: Connection, context: EvaluationContext, census: JobCounts) -> JobCounts:
        """The census with those jobs, which the stale ones then include."""
        if not context.lost_workers.states:
            return census
        row = self._statements.execute(connection, self._statements.values(context), lost_count_query).one()
        lost, young = int(row.lost), int(row.young)
        together = context.lost_workers.together if lost else 0
        return replace(census, stale=census.stale + lost, worker_lost=lost, lost_young=young, workers_gone=together)

    def stream_running(self, connection: Connection) -> Iterator[Candidate]:
        """Every running job, in the same way."""
        return self._streamed(connection, {}, running_query)

    def _streamed(self, connection: Connection, values: Values, query: Query) -> Iterator[Candidate]:
        width, end = self._width, -1 if self._has_never else None
        for row in self._statements.stream(connection, values, query):
            if is_whole(key := tuple(row[:width])):
                yield Candidate(key, tuple(row[width:end]), row[-1] if self._has_never else None)

    def signs_of(self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]) -> list[JobSigns]:
        """Those of the jobs that run."""
        values = self._statements.values(context) | key_parameters(keys)
        return self._job_signs(self._statements.execute(connection, values, signs_query, True))

    def signs_of_some(self, connection: Connection, context: EvaluationContext, limit: int) -> list[JobSigns]:
        """Some of the running jobs."""
        values = self._statements.values(context) | {MAX_READ: limit}
        return self._job_signs(self._statements.execute(connection, values, signs_query, False))

    def _job_signs(self, rows: Iterable[Sequence[Any]]) -> list[JobSigns]:
        names, width = self.row_witnesses, self._width
        return [
            JobSigns(
                Candidate(tuple(row[:width]), tuple(row[width : -len(names)])),
                dict(zip(names, map(bool, row[-len(names) :]), strict=True)),
            )
            for row in rows
            if is_whole(row[:width])
        ]

    def newly_spared(
        self,
        connection: Connection,
        context: EvaluationContext,
        previous: EvaluationContext | None,
        limit: int,
        stale: int,
    ) -> list[Key]:
        """Jobs that have passed their timeout since `previous` and have a recent sign of life, oldest first.

        Of the oldest `limit + stale` of them at most `stale` are silent, so no others have to be read.
        """
        limits = {MAX_READ: limit + stale, MAX_SPARED: limit}
        values = self._statements.values(context, previous) | limits
        return [tuple(row) for row in self._statements.execute(connection, values, newly_spared_query)]

    def kinds(self, connection: Connection) -> list[tuple[str | None, int]]:
        """The number of running jobs of each kind, largest first."""
        return [(row.kind, int(row.jobs)) for row in self._statements.execute(connection, {}, kinds_query)]


def with_stale(census: JobCounts, stale: int) -> JobCounts:
    """The census with the stale jobs that the candidates counted."""
    return replace(census, stale=stale, past_timeout=max(census.past_timeout, stale))


def add_counts(one: JobCounts, other: JobCounts) -> JobCounts:
    """The counts of two sets of jobs that have none in common."""
    oldest = [counts.oldest_started_epoch for counts in (one, other) if counts.oldest_started_epoch is not None]
    return JobCounts(
        running=one.running + other.running,
        past_timeout=one.past_timeout + other.past_timeout,
        stale=one.stale + other.stale,
        oldest_started_epoch=min(oldest, default=None),
        most_overdue=max(one.most_overdue, other.most_overdue),
        refused=one.refused + other.refused,
        kept=one.kept + other.kept,
        without_start=one.without_start + other.without_start,
        start_unknown=one.start_unknown + other.start_unknown,
        vanished=(*one.vanished, *other.vanished),
        worker_lost=one.worker_lost + other.worker_lost,
        lost_young=one.lost_young + other.lost_young,
        workers_gone=max(one.workers_gone, other.workers_gone),
    )


# --- statements --------------------------------------------------------------------------------------------------


def version_columns(rule: Rule, jobs: FromClause) -> list[Element]:
    """A job's version: its start and its claim columns, which must not change between two looks at it.

    The start travels as a number: it is only compared, and a number can hold what Python's dates cannot.
    """
    tables = rule.tables
    claim = [tables.job_column(jobs, name) for name in tables.profile.jobs.claim]
    return [
        sql.epoch(tables.started(jobs)).label("start"),
        *(sql.fingerprint(sql.text_of(column)).label(f"claim_{n}") for n, column in enumerate(claim)),
    ]


def key_and_version(rule: Rule, jobs: FromClause | None = None) -> Select[Any]:
    """The key and the version of jobs: of the whole table, or of these."""
    return select(*_key_and_version(rule, rule.tables.jobs if jobs is None else jobs))


def _key_and_version(rule: Rule, jobs: FromClause) -> list[Element]:
    return [*rule.tables.key_text(jobs), *version_columns(rule, jobs)]


def _stale(rule: Rule, read: Callable[[FromClause], Sequence[Element]]) -> Select[Any]:
    """What `read` reads of every stale job.

    Where kinds have limits of their own, all jobs are compared with the shortest ones first, as if there were no kinds,
    and those that are left with the limits of their kind: few, except where nearly all jobs are stale.
    """
    jobs, condition = rule.tables.jobs, rule.tables.search_condition(rule.tables.jobs)
    if not rule.limits_vary:
        return select(*read(jobs)).select_from(jobs).where(condition, rule.stale(jobs))
    names = sorted(columns_judged(rule.tables.profile))
    first = select(*(jobs.c[name] for name in names)).where(condition, rule.may_be_stale(jobs))
    # OFFSET has PostgreSQL plan it by itself. Else it expects few jobs to be left of all conditions together, and looks
    # up the signs of each running job.
    few = first.suffix_with("OFFSET 0", dialect="postgresql").subquery(reserved_alias("maybe_stale"))
    cutoff, key = rule.cutoff_to_ask(few), rule.tables.profile.jobs.key
    # Without a key, a job of which all is known has no signs that could be looked up.
    known = [case((cutoff.is_not(None), few.c[name])) if name in key else few.c[name] for name in names]
    columns = [column.label(name) for name, column in zip(names, known, strict=True)]
    result = [element.label(f"reaper_read_{n}") for n, element in enumerate(read(few))]
    of_kind = select(*columns, cutoff.label("reaper_cutoff"), *result).select_from(rule.from_jobs(few))
    past_timeout = of_kind.where(rule.older_than_timeout(few)).subquery(reserved_alias("past_timeout"))
    # Not as a batch: there may be many of them after all, and the planner, which takes them for one, would compare each
    # with the children of all others.
    silent = rule.silent_since(past_timeout, past_timeout.c.reaper_cutoff)
    return select(*(past_timeout.c[element.name] for element in result)).where(silent)


def _of_few(rule: Rule, few: CTE) -> Rule:
    """The rule for a few jobs that the same statement has found."""
    return rule.of_batch(lambda key: tuple_(*key).in_(select(*rule.tables.key(few))))


def candidates_query(rule: Rule) -> Select[Any]:
    """Every stale job."""
    return _stale(rule, lambda jobs: _candidates(rule, jobs))


def lost_query(rule: Rule) -> Select[Any]:
    """Every job that is stale only because its worker is gone."""
    return _lost(rule, *_candidates(rule, rule.tables.jobs))


def lost_count_query(rule: Rule) -> Select[Any]:
    """The number of these, and how many of them are not past their timeout."""
    is_young = not_(func.coalesce(rule.older_than_timeout(rule.tables.jobs), False))
    return _lost(rule, func.count().label("lost"), sql.count_if(is_young).label("young"))


def never_lost_count_query(rule: Rule) -> Select[Any]:
    """The number of these whose kind is never ended."""
    return _lost(rule, func.count(rule.never(rule.tables.jobs)))


def _lost(rule: Rule, *columns: Element) -> Select[Any]:
    jobs = rule.tables.jobs
    found = select(*columns).select_from(rule.from_jobs(jobs))
    return found.where(rule.tables.search_condition(jobs), rule.lost_alone(jobs))


def running_query(rule: Rule) -> Select[Any]:
    """Every running job."""
    jobs = rule.tables.jobs
    return select(*_candidates(rule, jobs)).where(rule.tables.search_condition(jobs), rule.tables.running(jobs))


def _candidates(rule: Rule, jobs: FromClause) -> list[Element]:
    """The columns of a `Candidate`; the last one only where kinds are configured that are never ended."""
    never = [rule.never(jobs).label("reaper_never")] if rule.has_never else []
    return [*_key_and_version(rule, jobs), *never]


def stale_count_query(rule: Rule) -> Select[Any]:
    """The number of stale jobs."""
    found = _stale(rule, lambda jobs: [literal(1).label("found")]).subquery(reserved_alias("stale"))  # noqa: ARG005
    return select(func.count()).select_from(found)


def never_count_query(rule: Rule) -> Select[Any]:
    """The number of stale jobs whose kind is never ended."""
    found = _stale(rule, lambda jobs: [rule.never(jobs).label("never")]).subquery(reserved_alias("stale"))
    (never,) = found.c  # under a name of `_stale` where limits vary
    return select(func.count(never)).select_from(found)


def held_count_query(rule: Rule) -> Select[Any]:
    """How many of a few jobs are stale, and of a kind that is ended."""
    rule, jobs = rule.of_batch(), rule.tables.jobs
    counted = select(func.count()).select_from(rule.from_jobs(jobs))
    stale = rule.still_stale(jobs)
    return counted.where(rule.tables.key_in_batch(jobs), or_(stale, rule.worker_lost(jobs)), rule.never(jobs).is_(None))


def newly_spared_query(rule: Rule) -> Select[Any]:
    """The keys of jobs that have passed their timeout since before and have a recent sign of life, oldest first."""
    tables, jobs = rule.tables, rule.tables.jobs
    # Not every column that the profile names: the role need not be able to read those that are only written.
    columns = [jobs.c[name] for name in sorted(columns_judged(tables.profile))]
    running = tables.search_condition(jobs), tables.running(jobs)
    newly_past = select(*columns).select_from(rule.with_timeouts(jobs)).where(*running, *newly_past_timeout(rule))
    oldest = newly_past.order_by(rule.started(jobs)).limit(sql.parameter(MAX_READ, Integer()))
    oldest_jobs = oldest.cte(reserved_alias("oldest")).prefix_with("MATERIALIZED", dialect="postgresql")
    of_few = _of_few(rule, oldest_jobs)
    spared = select(*tables.key_text(oldest_jobs)).select_from(of_few.from_jobs(oldest_jobs))
    spared = spared.where(of_few.has_recent_sign(oldest_jobs))
    return spared.order_by(rule.started(oldest_jobs)).limit(sql.parameter(MAX_SPARED, Integer()))


def row_witnesses(profile: Profile) -> list[Witness]:
    """The witnesses whose signs are rows of another table that belong to one job each, and are no jobs themselves.

    None for a log: there the jobs vanish with their signs.
    """
    if profile.jobs.log is not None:
        return []
    key = set(profile.jobs.key)
    return [
        witness
        for witness in profile.alive
        if witness.events and not witness.events.key and key <= set(witness.events.matching(profile.jobs.key).values())
    ]


def signs_query(rule: Rule, of_batch: bool) -> Select[Any]:
    """The key and the version of running jobs, and whether each has any sign of life from each of `row_witnesses`."""
    tables, jobs = rule.tables, rule.tables.jobs
    newest = rule.newest_signs(jobs, row_witnesses(tables.profile))
    query = key_and_version(rule).add_columns(*(sign.is_not(None).label(f"sign_{n}") for n, sign in enumerate(newest)))
    if of_batch:
        return query.where(tables.key_in_batch(jobs), tables.running(jobs))
    running = query.where(tables.search_condition(jobs), tables.running(jobs))
    return running.limit(sql.parameter(MAX_READ, Integer()))


def kinds_query(rule: Rule) -> Select[Any]:
    """The number of running jobs of each kind, largest first. Kinds that are shown alike are counted together."""
    jobs = rule.tables.jobs
    kind = rule.kind(jobs).label("kind")
    running = rule.tables.search_condition(jobs), rule.tables.running(jobs)
    counted = select(kind, func.count().label("jobs")).select_from(jobs).where(*running).group_by(kind)
    exact = counted.subquery(reserved_alias("exact"))
    shown = select(sql.shortened(exact.c.kind).label("kind"), exact.c.jobs).subquery(reserved_alias("shown"))
    jobs_of_kind = func.sum(shown.c.jobs).label("jobs")
    return select(shown.c.kind, jobs_of_kind).group_by(shown.c.kind).order_by(jobs_of_kind.desc(), shown.c.kind)
