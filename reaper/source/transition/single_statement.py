"""The transition in one statement: it judges the jobs, changes them, writes their audit events, and returns the result.

All of it reads one snapshot, and all of it happens or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Label,
    ScalarSelect,
    Select,
    Subquery,
    and_,
    cast,
    delete,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.sql.dml import UpdateBase

from reaper.database.dialect import dialect_of
from reaper.model import Key
from reaper.profile import Action, Insert, Step, is_conditional
from reaper.source.evidence import FIRST, KEY, KEY_TEXT
from reaper.source.transition.audit_event import insert_for_each
from reaper.source.transition.due_steps import due_column, due_jobs
from reaper.source.transition.related_rows import change_related_rows
from reaper.source.transition.result import EndedJob, RowCounts, check_complete
from reaper.source.transition.second_check import SecondCheck
from reaper.sql import expressions as sql
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import key_parameters
from reaper.sql.statement import StatementCompiler, Values
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.rule import Rule


@dataclass(slots=True)
class Branch:
    """One of the transitions: which jobs it is for, those that it has ended, and the rows of the action's other steps.

    `inserted` is by the number of the step; `others` are the updates and deletes. `due` are the jobs of those inserts
    that are not made for every ended job.
    """

    number: int
    action: Action
    to_end: CTE
    ended: CTE
    inserted: Mapping[int, CTE] = field(default_factory=dict)
    others: tuple[CTE, ...] = ()
    due: Mapping[int, CTE] = field(default_factory=dict)


class SingleStatementTransition:
    """Ends locked jobs by one statement, whose parameters are the keys of the batch.

    Its rows have the key as text, `kind`, `age`, `silence`, `witness`, `task` and `evidence`; the branch (`arm`) and
    whether its transition held (`ended`); and the counts: `judged_N` of the jobs of branch N, `also_N_M` of its
    inserts, `due_N_M` of the jobs of an insert that is not made for all.
    """

    def __init__(self, rule: Rule, compiler: StatementCompiler, second_check: SecondCheck, action: str) -> None:
        self._profile = rule.tables.profile
        self.actions = [branch_action for _, branch_action in self._profile.branches(action)]
        self.statements = {"end": compiler(_TransitionQuery(rule, second_check, action).query)}

    def run(self, connection: Connection, keys: Sequence[Key], values: Values) -> list[EndedJob]:
        """End those of the jobs that are to be ended. Raises PartialTransition when a row of theirs is missing."""
        own_path = {OWN_PATH: dialect_of(connection).own_path(connection)}
        rows = self.statements["end"].execute(connection, {**values, **own_path, **key_parameters(keys)}).all()
        ended_rows = [row for row in rows if row.ended]
        for number, action in enumerate(self.actions):
            counts, ended = rows[0]._mapping, sum(row.arm == number for row in ended_rows)
            inserts = [n for n, step in enumerate(action.also) if isinstance(step, Insert)]
            inserted = {n: counts[_also(number, n)] for n in inserts}
            due = {n: counts[due_column(number, n)] for n in inserts if is_conditional(action.also[n])}
            check_complete(self._profile, action, RowCounts(counts[f"judged_{number}"], ended, inserted, due))
        width = len(self._profile.jobs.key)
        return [
            EndedJob(
                key=tuple(row[:width]),
                kind=row.kind,
                age=row.age,
                silence=row.silence,
                witness=row.witness,
                task=row.task,
                evidence=row.evidence,
                action=self.actions[row.arm],
            )
            for row in ended_rows
        ]


def _also(branch: int, step: int) -> str:
    return reserved_alias(f"also_{branch}_{step}")


class _TransitionQuery:
    """Builds the statement: `query`."""

    def __init__(self, rule: Rule, second_check: SecondCheck, action: str) -> None:
        self._tables, self._profile = rule.tables, rule.tables.profile
        self._values = second_check.values
        self._branches = self._make_branches(second_check.to_end, action)
        self.query = self._result()

    # --- transitions -------------------------------------------------------------------------------------------

    def _make_branches(self, to_end: CTE, action: str) -> list[Branch]:
        branches = list[Branch]()
        for number, (first, branch_action) in enumerate(self._profile.branches(action)):
            jobs = to_end if first is None else self._chosen(to_end, number, first=first)
            ended = self._transition(jobs, branch_action).cte(reserved_alias(f"ended_{number}"))
            branch = Branch(number, branch_action, jobs, ended)
            self._add_steps(branch)
            branches.append(branch)
        return branches

    @staticmethod
    def _chosen(to_end: CTE, number: int, *, first: bool) -> CTE:
        """The jobs that get the first of two actions, or the others."""
        takes_first = to_end.c[FIRST]
        jobs = select(to_end).where(takes_first if first else not_(takes_first))
        return jobs.cte(reserved_alias(f"doomed_{number}")).prefix_with("MATERIALIZED", dialect="postgresql")

    def _transition(self, to_end: CTE, action: Action) -> Select[Any] | UpdateBase:
        jobs = self._tables.jobs
        key = [to_end.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        same_key = ProfileTables.keys_equal(self._tables.key(jobs), key)
        # Each other step reads what this returns, and so is run after it, along the same path.
        is_job = and_(same_key, self._tables.running_by_own_row(jobs), sql.own_path_set())
        if action.delete:
            return delete(jobs).where(is_job).returning(*to_end.c, false().label("still_runs"))
        if action.assign is None:
            return select(*to_end.c, false().label("still_runs")).where(sql.own_path_set())
        values = self._values.assignments(jobs, self._profile.jobs.table, action.assign, to_end, updated=jobs)
        return update(jobs).values(values).where(is_job).returning(*to_end.c, self._still_runs(action))

    def _still_runs(self, action: Action) -> Label[bool]:
        """A trigger may let the row be written and put the old state back: such a job has not ended.

        Where the statement itself changes the other tables that say whether the job runs, they cannot be read here.
        """
        if self._tables.running_depends_on(action.also):
            return false().label("still_runs")
        # NULL where the action has set NULL: such a job does not run.
        return func.coalesce(self._tables.running(self._tables.jobs), False).label("still_runs")

    # --- the action's other steps ------------------------------------------------------------------------------

    def _add_steps(self, branch: Branch) -> None:
        """Each step reads what the transition returned: a job that did not change gets no audit event."""
        inserted, due, others = {}, {}, []
        for n, step in enumerate(branch.action.also):
            some = due_jobs(self._tables, step, self._values, branch.ended, branch.number, n)
            cte = self._step(step, branch.ended if some is None else some).cte(_also(branch.number, n))
            if not isinstance(step, Insert):
                others.append(cte)
                continue
            inserted[n] = cte
            if some is not None:
                due[n] = some
        branch.inserted, branch.due, branch.others = inserted, due, tuple(others)

    def _step(self, step: Step, ended: CTE) -> UpdateBase:
        if isinstance(step, Insert):
            return insert_for_each(self._tables.table(step.table), step, self._values, ended)
        changed = change_related_rows(self._tables, step, self._values, ended)
        return changed.returning(literal_column("1").label("one"))

    # --- the result --------------------------------------------------------------------------------------------

    def _result(self) -> Select[Any]:
        """The counts stand beside the rows: they are returned also when no job has ended."""
        counts = self._counts()
        results = [self._branch_result(branch) for branch in self._branches]
        ended = (union_all(*results) if len(results) > 1 else results[0]).subquery(reserved_alias("ended"))
        result = select(*ended.c, *counts.c).select_from(counts.outerjoin(ended, true()))
        # Nothing reads what these steps return; PostgreSQL runs them because they are part of the statement.
        return result.add_cte(*(cte for branch in self._branches for cte in branch.others))

    def _branch_result(self, branch: Branch) -> Select[Any]:
        ended, task = branch.ended, self._profile.task
        return select(
            *(ended.c[KEY_TEXT.format(n)] for n in range(len(self._profile.jobs.key))),
            sql.shortened(ended.c.kind).label("kind"),
            *(cast(ended.c[name], sql.FLOAT).label(name) for name in ("age", "silence")),
            ended.c.witness,
            (sql.text_of(ended.c[self._tables.row_alias(task.task)]) if task else sql.null_text()).label("task"),
            (cast(null(), sql.DOCUMENT) if branch.action.writes_evidence else ended.c.evidence).label("evidence"),
            literal(branch.number).label("arm"),
            func.coalesce(not_(ended.c.still_runs), False).label("ended"),
        )

    def _counts(self) -> Subquery:
        counts = [_count(branch.to_end).label(f"judged_{branch.number}") for branch in self._branches]
        for branch in self._branches:
            counts += [_count(cte).label(cte.name) for cte in branch.inserted.values()]
            counts += [_count(cte).label(due_column(branch.number, n)) for n, cte in branch.due.items()]
        return select(*counts).subquery(reserved_alias("counts"))


def _count(cte: CTE) -> ScalarSelect[int]:
    return select(func.count()).select_from(cte).scalar_subquery()
