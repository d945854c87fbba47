"""One statement that judges jobs, changes them, writes what goes with it and tells what was done.

Everything in it reads one snapshot, and nothing of it happens without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    CTE,
    ClauseElement,
    Connection,
    Label,
    ScalarSelect,
    Select,
    Subquery,
    TableClause,
    and_,
    cast,
    delete,
    false,
    func,
    insert,
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

from reaper.model import Key
from reaper.profile import Action, Delete, Insert, Step, Update
from reaper.source.evidence import KEY, KEY_TEXT, row_alias
from reaper.source.transition.result import EndedJob, RowCounts, check_complete
from reaper.source.transition.second_check import SecondCheck, attempts_left
from reaper.source.transition.values import Target
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.rule import Rule


@dataclass(slots=True)
class Branch:
    """One of the transitions: the jobs it is for, those it has changed, and the rows that it inserts."""

    number: int
    action: Action
    doomed: CTE
    ended: CTE
    inserted: Mapping[int, CTE] = field(default_factory=dict)
    others: tuple[CTE, ...] = ()


class SingleStatementTransition:
    """Ends locked jobs by one `statement`, whose parameters are the keys of the batch.

    Its rows: the key as text, `kind`, `age`, `silence`, `witness`, `task`, `evidence`; `arm` and `ended`, whether the
    transition held; and the counts: `judged_N` of the jobs of arm N and `also_N_M` of its inserts.
    """

    def __init__(self, rule: Rule, judging: SecondCheck, choice: str) -> None:
        self._schema, self._profile = rule.tables, rule.tables.profile
        self._writing = judging.writing
        self.branches = self._arms(judging.to_end, choice)
        self.statement = self._told()

    @property
    def statements(self) -> dict[str, ClauseElement]:
        """What is run, by its name, in that order."""
        return {"end": self.statement}

    def run(self, connection: Connection, keys: Sequence[Key]) -> list[EndedJob]:
        """Those of the jobs that have been ended. Raises HalfDone when a change or what goes with it is missing."""
        rows = connection.execute(self.statement, key_parameters(keys)).all()
        done = [row for row in rows if row.ended]
        for arm in self.branches:
            counted, ended = rows[0]._mapping, sum(row.arm == arm.number for row in done)
            inserted = {n: counted[cte.name] for n, cte in arm.inserted.items()}
            check_complete(self._profile, arm.action, RowCounts(counted[f"judged_{arm.number}"], ended, inserted))
        width = len(self._profile.jobs.key)
        return [
            EndedJob(
                tuple(row[:width]),
                row.kind,
                row.age,
                row.silence,
                row.witness,
                row.task,
                row.evidence,
                self.branches[row.arm].action,
            )
            for row in done
        ]

    # --- transitions -------------------------------------------------------------------------------------------

    def _arms(self, doomed: CTE, choice: str) -> list[Branch]:
        made = []
        for number, (left, action) in enumerate(self._profile.branches(choice)):
            mine = doomed if left is None else self._part(doomed, number, left=left)
            ended = self._transition(mine, action).cte(reserved_alias(f"ended_{number}"))
            arm = Branch(number, action, mine, ended)
            self._add_steps(arm)
            made.append(arm)
        return made

    def _part(self, doomed: CTE, number: int, *, left: bool) -> CTE:
        """Those that have attempts left, or have not."""
        having = attempts_left(self._profile, doomed)
        found = select(doomed).where(having if left else not_(having))
        return found.cte(reserved_alias(f"doomed_{number}")).prefix_with("MATERIALIZED", dialect="postgresql")

    def _transition(self, doomed: CTE, action: Action) -> Select[Any] | UpdateBase:
        jobs = self._schema.jobs
        theirs = [doomed.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        mine = and_(ProfileTables.keys_equal(self._schema.key(jobs), theirs), self._schema.running_by_own_row(jobs))
        if action.delete:
            return delete(jobs).where(mine).returning(*doomed.c, false().label("still_runs"))
        if action.assign is None:
            return select(*doomed.c, false().label("still_runs"))
        values = {
            jobs.c[name]: self._writing.value(value, doomed, Target(self._profile.jobs.table, name, jobs))
            for name, value in action.assign.items()
        }
        return update(jobs).values(values).where(mine).returning(*doomed.c, self._still_runs(action))

    def _still_runs(self, action: Action) -> Label[bool]:
        """A trigger may let the row be written and put the old state back: such a job has not ended.

        What other tables say of it cannot be asked here where the same statement changes them.
        """
        running = self._profile.jobs.running
        related = {each.table for each in running.related} if running else set()
        if related & {step.table for step in action.also}:
            return false().label("still_runs")
        return self._schema.running(self._schema.jobs).label("still_runs")

    # --- what goes with it -------------------------------------------------------------------------------------

    def _add_steps(self, arm: Branch) -> None:
        """Each reads what the transition returned: a job that did not change gets no audit event."""
        inserted, others = {}, []
        for n, step in enumerate(arm.action.also):
            made = self._step(step, arm.ended).cte(reserved_alias(f"also_{arm.number}_{n}"))
            if isinstance(step, Insert):
                inserted[n] = made
            else:
                others.append(made)
        arm.inserted, arm.others = inserted, tuple(others)

    def _step(self, step: Step, ended: CTE) -> UpdateBase:
        table = self._schema.table(step.table)
        one: Label[int] = literal_column("1").label("one")
        if isinstance(step, Insert):
            values = [
                self._writing.value(value, ended, Target(step.table, name)) for name, value in step.values.items()
            ]
            rows = select(*values).select_from(ended)
            into = [table.c[name] for name in step.values]
            return insert(table).from_select(into, rows, include_defaults=False).returning(one)
        matching = [table.c[theirs] == ended.c[row_alias(self._profile, ours)] for theirs, ours in step.match.items()]
        theirs = and_(*matching, self._schema.conditions_hold(step.where, table, step.table))
        if isinstance(step, Delete):
            return delete(table).where(theirs).returning(one)
        return update(table).values(self._assigned(step, ended, table)).where(theirs).returning(one)

    def _assigned(self, step: Update, ended: CTE, table: TableClause) -> dict[Any, Element]:
        return {
            table.c[name]: self._writing.value(value, ended, Target(step.table, name, table))
            for name, value in step.assign.items()
        }

    # --- what was done -----------------------------------------------------------------------------------------

    def _told(self) -> Select[Any]:
        """Counted apart from the rows: an update which changes nothing still says how many it should have."""
        counts = self._counts()
        told = [self._told_by(arm) for arm in self.branches]
        ended = (union_all(*told) if len(told) > 1 else told[0]).subquery(reserved_alias("ended"))
        found = select(*ended.c, *counts.c).select_from(counts.outerjoin(ended, true()))
        # Nothing reads what these return: they are carried out all the same when the statement has them.
        return found.add_cte(*(cte for arm in self.branches for cte in arm.others))

    def _told_by(self, arm: Branch) -> Select[Any]:
        ended, task = arm.ended, self._profile.task
        return select(
            *(ended.c[KEY_TEXT.format(n)] for n in range(len(self._profile.jobs.key))),
            ended.c.kind,
            *(cast(ended.c[name], sql.FLOAT).label(name) for name in ("age", "silence")),
            ended.c.witness,
            (sql.text_of(ended.c[row_alias(self._profile, task.task)]) if task else sql.null_text()).label("task"),
            (cast(null(), sql.DOCUMENT) if arm.action.writes_evidence else ended.c.evidence).label("evidence"),
            literal(arm.number).label("arm"),
            func.coalesce(not_(ended.c.still_runs), False).label("ended"),
        )

    def _counts(self) -> Subquery:
        counted = [_count(arm.doomed).label(f"judged_{arm.number}") for arm in self.branches]
        for arm in self.branches:
            counted += [_count(cte).label(cte.name) for cte in arm.inserted.values()]
        return select(*counted).subquery(reserved_alias("counts"))


def _count(cte: CTE) -> ScalarSelect[int]:
    return select(func.count()).select_from(cte).scalar_subquery()
