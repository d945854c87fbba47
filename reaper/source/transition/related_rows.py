"""Updates and deletes of other tables' rows that belong to an ended job."""

from __future__ import annotations

from sqlalchemy import Delete, Update, and_, delete, update

from reaper.profile import Delete as DeleteStep
from reaper.profile import Update as UpdateStep
from reaper.source.transition.values import JobColumns, ValueCompiler
from reaper.sql.tables import ProfileTables


def change_related_rows(
    tables: ProfileTables, step: DeleteStep | UpdateStep, values: ValueCompiler, job: JobColumns
) -> Delete | Update:
    """The statement for one step of an action. `job` has the columns of the ended jobs, or parameters for one job."""
    table = tables.table(step.table)
    matching = [table.c[column] == values.row_column(job_column, job) for column, job_column in step.match.items()]
    belongs = and_(*matching, tables.conditions_hold(step.where, table, step.table))
    if isinstance(step, DeleteStep):
        return delete(table).where(belongs)
    return update(table).values(values.assignments(table, step.table, step.assign, job, updated=table)).where(belongs)
