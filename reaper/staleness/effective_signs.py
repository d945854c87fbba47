"""The signs of life of a job as they count: those in the future count from when the reaper first saw them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Boolean, ColumnElement, FromClause, and_, case, func, not_, or_

from reaper.profile import Witness
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import LookedUp
from reaper.sql.tables import ProfileTables
from reaper.staleness import parameters
from reaper.staleness.batch_children import BatchChildren
from reaper.staleness.future_signs import ENTRIES, SEPARATOR, may_be_ahead
from reaper.staleness.signs import Signs, SignSource


class CountedSigns:
    """The signs of life of one profile as they count: those in the future from when they were first seen."""

    def __init__(self, tables: ProfileTables, signs: Signs, batch: BatchChildren | None) -> None:
        """`batch`: the statements are about a few jobs."""
        self._tables, self._signs, self._batch = tables, signs, batch

    def joined(self, jobs: FromClause) -> FromClause:
        """What a statement reads from that asks for signs of life."""
        return jobs if self._batch is None else self._batch.joined(jobs)

    def newest(self, witness: Witness, jobs: FromClause) -> Element:
        """The newest sign of a witness as it counts; NULL without one. For jobs that are given by their keys."""
        signs = self._signs.of(witness, jobs)
        if signs.rows is None:
            return self._in_own_row(witness, jobs, signs) if may_be_ahead(witness) else signs.at
        if self._batch is not None and witness.children:
            of_children = self._batch.newest(witness)
            return case((of_children > _latest(), self._ahead_or_newer(witness, jobs)), else_=of_children)
        at: Element = func.max(signs.at)
        moment = sql.to_instant(at, signs.time)
        if may_be_ahead(witness):
            # In one aggregate: the index gives the newest row, and nothing else is read unless that is in the future.
            newest = signs._replace(at=at, roughly=None)
            moment = case((newest.after(_latest()), self._ahead_or_newer(witness, jobs)), else_=moment)
        return signs.rows.with_only_columns(moment).scalar_subquery()

    def newest_until_now(self, witness: Witness, jobs: FromClause) -> Element:
        """The newest sign that is not in the future; NULL where there is none."""
        signs = self._signs.of(witness, jobs)
        if not may_be_ahead(witness):
            return signs.at
        if signs.rows is None:
            return case((signs.at > _latest(), sql.null_instant()), else_=signs.at)
        rows = signs.rows.where(signs.until(_latest())).with_only_columns(func.max(signs.at))
        return sql.to_instant(rows.scalar_subquery(), signs.time)

    def none_since(self, witness: Witness, jobs: FromClause, cutoff: Element, *, of_all: bool) -> ColumnElement[bool]:
        """No sign since the cutoff, for a survey. `of_all`: the cutoff is the same for all jobs."""
        signs = self._signs.of(witness, jobs)
        if signs.rows is None:
            at = self._in_own_row(witness, jobs, signs) if may_be_ahead(witness) else signs.at
            return func.coalesce(at < cutoff, True)
        since = signs.since(cutoff, of_all=of_all)
        if not may_be_ahead(witness):
            return not_(signs.rows.where(since).exists())
        first_seen = self._first_seen(witness, jobs)
        counts = or_(signs.until(_latest()), func.coalesce(first_seen >= cutoff, True))
        # A constant while nothing is remembered: then the planner drops all of it.
        nothing_known = sql.parameter(parameters.HAS_FUTURE_SIGNS, Boolean()).is_(False)
        unchanged = or_(nothing_known, first_seen.is_(None), self._is_remembered(witness, jobs))
        return and_(not_(signs.rows.where(since, counts).exists()), unchanged)

    # --- signs in the future -------------------------------------------------------------------------------------

    def has_ahead(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        """The job has a sign of this witness in the future."""
        signs = self._signs.of(witness, jobs)
        if signs.rows is None:
            return signs.at > _latest()
        return signs.rows.where(signs.after(_latest())).exists()

    def newest_ahead(self, witness: Witness, jobs: FromClause) -> Element:
        """The newest sign in the future as it was written; NULL where there is none."""
        signs = self._signs.of(witness, jobs)
        if signs.rows is None:
            return case((signs.at > _latest(), signs.at), else_=sql.null_instant())
        if self._batch is not None and witness.children:
            newest = self._batch.newest(witness)
            return case((newest > _latest(), newest), else_=sql.null_instant())
        rows = signs.rows.where(signs.after(_latest())).with_only_columns(func.max(signs.at))
        return sql.to_instant(rows.scalar_subquery(), signs.time)

    def state(self, witness: Witness, jobs: FromClause) -> Element:
        """The state of a job's signs in the future, as a text."""
        signs = self._signs.of(witness, jobs)
        if signs.rows is None:
            return sql.text_of(signs.at)
        ahead = signs.rows.where(signs.after(_latest()))
        text = sql.concat(sql.text_of(func.max(signs.at)), ENTRIES, sql.text_of(func.count()))
        return ahead.with_only_columns(text).scalar_subquery()

    def remembered_state(self, witness: Witness, key_text: Sequence[Element]) -> Element:
        """The state that is remembered of a job; NULL without one."""
        return _remembered(parameters.FUTURE_STATES, witness, key_text)

    def _in_own_row(self, witness: Witness, jobs: FromClause, signs: SignSource) -> Element:
        return case((signs.at > _latest(), self._counted_ahead(witness, jobs)), else_=signs.at)

    def _ahead_or_newer(self, witness: Witness, jobs: FromClause) -> Element:
        """Where there are signs in the future: from when they count, or the newest of the others."""
        return sql.newest(self._counted_ahead(witness, jobs), self.newest_until_now(witness, jobs))

    def _counted_ahead(self, witness: Witness, jobs: FromClause) -> Element:
        return case(
            (self._is_remembered(witness, jobs), self._first_seen(witness, jobs)),
            else_=sql.instant_parameter(parameters.NOW),
        )

    def _is_remembered(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        """No sign has changed since what is remembered was seen; NULL where nothing is."""
        return self.state(witness, jobs) == self.remembered_state(witness, self._tables.key_text(jobs))

    def _first_seen(self, witness: Witness, jobs: FromClause) -> Element:
        """When the remembered state was first seen; NULL without one."""
        return sql.instant_at(_remembered(parameters.FUTURE_SINCE, witness, self._tables.key_text(jobs)))


def _latest() -> Element:
    """Signs after this moment are in the future."""
    return sql.instant_parameter(parameters.LATEST)


def _remembered(name: str, witness: Witness, key_text: Sequence[Element]) -> Element:
    parts = (part for text in key_text for part in (SEPARATOR, text))
    job = sql.text_of(sql.concat(witness.witness, *parts))
    return LookedUp(name, job)
