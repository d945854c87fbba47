"""The transition in several statements, for servers that change no rows inside a query (MariaDB).

One query judges the jobs, in one snapshot. Its rows are bound to the statements that change tables. All are in one
transaction, whose jobs `reaper.source.claim` has locked before. What others can do between two of these statements:

- A worker's sign of life, its finish, and an operator's change of a job need the lock on the job's row: they wait for
  our commit, and then find the job ended.
- A second reaper skips the locked rows.
- If this process is killed, or the server stops or fails over before the commit, none of the changes remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Connection, Row, Select, and_, delete, func, select, update
from sqlalchemy.sql.dml import UpdateBase

from reaper.model import Key
from reaper.profile import Action, Delete, Insert, Step
from reaper.source.evidence import KEY, KEY_TEXT
from reaper.source.transition.audit_event import insert_for_bound
from reaper.source.transition.related_rows import change_related_rows
from reaper.source.transition.result import EndedJob, RowCounts, check_complete
from reaper.source.transition.second_check import SecondCheck, has_attempts_left
from reaper.source.transition.values import BoundRow
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables
from reaper.staleness.rule import Rule

_LEFT = "attempts_left"


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the transitions: which jobs it is for, its statement, and those of the action's other steps.

    `attempts_left` says whether the jobs have attempts left; None: it is for all jobs.
    """

    attempts_left: bool | None
    action: Action
    transition: UpdateBase
    also: Sequence[UpdateBase]

    @property
    def before_transition(self) -> list[int]:
        """The steps that run before the transition: deletes of rows that refer to a job which is deleted.

        Each statement by itself must leave every foreign key whole.
        """
        return [n for n, step in enumerate(self.action.also) if self.action.delete and isinstance(step, Delete)]


class MultiStatementTransition:
    """Ends locked jobs. The query `judging` has the keys of the batch as parameters."""

    def __init__(self, rule: Rule, second_check: SecondCheck, action: str) -> None:
        self._tables, self._profile = rule.tables, rule.tables.profile
        self._values, to_end = second_check.values, second_check.to_end
        self._job = BoundRow(to_end)
        left = [has_attempts_left(self._tables, to_end).label(_LEFT)] if self._profile.attempts else []
        self.judging: Select[Any] = select(*to_end.c, *left)
        self.branches = [self._branch(left, action) for left, action in self._profile.branches(action)]
        jobs = self._tables.jobs
        self.still_running = select(*self._tables.key_text(jobs)).where(
            self._tables.key_in_batch(jobs), self._tables.running(jobs)
        )

    @property
    def statements(self) -> dict[str, ClauseElement]:
        """The statements by name."""
        statements: dict[str, ClauseElement] = {"judge": self.judging}
        for number, branch in enumerate(self.branches):
            statements[f"transition_{number}"] = branch.transition
            statements |= {f"also_{number}_{n}": also for n, also in enumerate(branch.also)}
        return {**statements, "undone": self.still_running}

    def run(self, connection: Connection, keys: Sequence[Key]) -> list[EndedJob]:
        """End those of the jobs that are to be ended. Raises PartialTransition when a row of theirs is missing."""
        rows = connection.execute(self.judging, key_parameters(keys)).all()
        ended: list[EndedJob] = []
        for branch in self.branches:
            left = branch.attempts_left
            branch_rows = [row for row in rows if left is None or bool(row._mapping[_LEFT]) == left]
            if branch_rows:
                ended += self._end(connection, branch, branch_rows)
        return ended

    def _end(self, connection: Connection, branch: Branch, rows: Sequence[Row[Any]]) -> list[EndedJob]:
        parameters = [BoundRow.parameters(row) for row in rows]
        before = branch.before_transition
        counts = {n: connection.execute(branch.also[n], parameters).rowcount for n in before}
        changed = connection.execute(branch.transition, parameters).rowcount
        after = (n for n in range(len(branch.also)) if n not in before)
        counts |= {n: connection.execute(branch.also[n], parameters).rowcount for n in after}
        ended = [self._ended_job(row, branch.action) for row in rows]
        # A trigger may let a row be written and put the old state back: such a job has not ended.
        changed -= len(connection.execute(self.still_running, key_parameters([job.key for job in ended])).all())
        inserted = {n: counts[n] for n, step in enumerate(branch.action.also) if isinstance(step, Insert)}
        check_complete(self._profile, branch.action, RowCounts(len(rows), changed, inserted))
        return ended

    def _ended_job(self, row: Row[Any], action: Action) -> EndedJob:
        columns, task = row._mapping, self._profile.task
        width = len(self._profile.jobs.key)
        return EndedJob(
            key=tuple(columns[KEY_TEXT.format(n)] for n in range(width)),
            kind=columns["kind"],
            age=_number(columns["age"]),
            silence=_number(columns["silence"]),
            witness=columns["witness"],
            task=columns[self._tables.row_alias(task.task)] if task else None,
            evidence=None if action.writes_evidence else columns["evidence"],
            action=action,
        )

    # --- statements --------------------------------------------------------------------------------------------

    def _branch(self, left: bool | None, action: Action) -> Branch:
        return Branch(left, action, self._transition(action), [self._step(step) for step in action.also])

    def _transition(self, action: Action) -> UpdateBase:
        jobs, name = self._tables.jobs, self._profile.jobs.table
        key: list[Element] = [self._job.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        # Wrapped, so that no index on the running columns is used: its entries would be locked before the row is.
        runs = func.coalesce(self._tables.running_by_own_row(jobs), False)
        is_job = and_(ProfileTables.keys_equal(self._tables.key(jobs), key), runs)
        if action.delete:
            return delete(jobs).where(is_job)
        values = self._values.assignments(jobs, name, action.assign or {}, self._job, updated=jobs)
        return update(jobs).values(values).where(is_job)

    def _step(self, step: Step) -> UpdateBase:
        if isinstance(step, Insert):
            return insert_for_bound(self._tables.table(step.table), step, self._values, self._job)
        return change_related_rows(self._tables, step, self._values, self._job)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
