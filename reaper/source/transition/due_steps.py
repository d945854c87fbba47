"""For which of the ended jobs a step of an action does something: by a condition, or by a row that is there already.

The condition `when` is evaluated on the job's row together with the rule, behind the lock, and comes along with the
evidence: nothing can change it before the commit.

A row of `unless_there` is looked for in the statement that inserts it. The rows of other tables are not locked, so
another transaction may insert the same row before the commit. With a unique key on these columns one of the two is
refused; where that is the reaper's, the whole transition is taken back, and the next sweep finds the row there. Without
such a key both rows stay, as with every other writer of the table.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, Select, and_, func, literal, literal_column, not_, select

from reaper.profile import FromColumn, Insert, Step
from reaper.source.transition.values import JobColumns, Target, ValueCompiler
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias

_DUE = "due_{}_{}"
_TURN = "turn"


def due_column(branch: int, step: int) -> str:
    """The column that says whether a job meets the condition of a step of one of the transitions, by their numbers."""
    return _DUE.format(branch, step)


def due_columns(tables: ProfileTables, jobs: FromClause, action: str) -> dict[str, Element]:
    """The conditions of the steps that have one, on the job's row."""
    profile = tables.profile
    return {
        due_column(branch, n): func.coalesce(tables.conditions_hold(step.when, jobs, profile.jobs.table), False)
        for branch, (_, branch_action) in enumerate(profile.branches(action))
        for n, step in enumerate(branch_action.also)
        if step.when
    }


def is_there(tables: ProfileTables, step: Insert, values: ValueCompiler, job: JobColumns) -> ColumnElement[bool]:
    """A row with the values of `unless_there` exists. `job` has columns, or parameters for one job."""
    there = tables.table(step.table).alias(reserved_alias("there"))
    equal = [
        there.c[name] == values.value(step.values[name], job, Target(step.table, name)) for name in step.unless_there
    ]
    return select(literal(1)).select_from(there).where(and_(*equal)).exists()


def due_jobs(
    tables: ProfileTables, step: Step, values: ValueCompiler, ended: CTE, branch: int, number: int
) -> CTE | None:
    """Those of the jobs that a statement ends for which it takes the step; None: all."""
    jobs: Select[Any] = select(ended)
    if step.when:
        jobs = jobs.where(ended.c[due_column(branch, number)])
    if isinstance(step, Insert) and step.unless_there:
        jobs = _first_of_each_row(tables, step, jobs.where(not_(is_there(tables, step, values, ended))), ended)
    elif not step.when:
        return None
    return jobs.cte(reserved_alias(f"due_{branch}_{number}")).prefix_with("MATERIALIZED", dialect="postgresql")


def _first_of_each_row(tables: ProfileTables, step: Insert, jobs: Select[Any], ended: CTE) -> Select[Any]:
    """One job for each row: all jobs of a statement see the rows before it, and would insert the same row each."""
    written = [step.values[name] for name in step.unless_there]
    copied = {value.column for value in written if isinstance(value, FromColumn)}
    if set(tables.profile.jobs.key) <= copied:
        return jobs
    same_row = [ended.c[tables.row_alias(name)] for name in sorted(copied)]
    turn = func.row_number().over(partition_by=same_row or None).label(_TURN)
    numbered = jobs.add_columns(turn).subquery(reserved_alias("numbered"))
    return select(numbered).where(numbered.c[_TURN] == literal_column("1"))
