"""The audit event of an ended job: what is the same in each of a sweep, and how it is written.

The profile says which rows an action inserts; one of them is the audit event. It is written in the transaction of the
transition, and `reaper.source.transition.result` checks that each ended job has its row. Later,
`reaper.source.audit_trail` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import CTE, Insert, TableClause, insert, literal_column, not_, select

from reaper.model import Reason
from reaper.profile import Insert as InsertStep
from reaper.source.transition.due_steps import is_there
from reaper.source.transition.values import BoundRow, ValueCompiler
from reaper.sql.tables import ProfileTables

AUDIT_FIELD = "reaper_audit_{}"
"""The parameter with a text that is the same in every audit event of a sweep."""


@dataclass(frozen=True, slots=True)
class AuditInfo:
    """Who ends jobs, in which sweep, and why: part of every audit event.

    `operator` is the person who decided it, `message` that person's text, and `action` the action that was chosen.
    `not_requeued` says why the job was failed instead of started again.
    """

    source: str
    sweep_id: str
    host: str
    reason: Reason = Reason.JOB_TIMEOUT
    message: str | None = None
    operator: str | None = None
    action: str | None = None
    not_requeued: str | None = None

    @property
    def values(self) -> dict[str, str]:
        """The values of the parameters of `fields`."""
        return {AUDIT_FIELD.format(name): text for name, text in self.fields.items()}

    @property
    def fields(self) -> dict[str, str]:
        """The texts that are the same for every job. Without a `message`, each job has its own, from its evidence."""
        fields = {
            "reason": self.reason.value,
            "source": self.source,
            "sweep_id": self.sweep_id,
            "host": self.host,
            "operator": self.operator,
            "message": self.message,
            "action": self.action,
            "not_requeued": self.not_requeued,
        }
        return {name: text for name, text in fields.items() if text is not None}


def insert_for_each(table: TableClause, step: InsertStep, values: ValueCompiler, ended: CTE) -> Insert:
    """Inserts the step's row for each job of `ended`, in the statement that ends them. Returns a row for each."""
    row = values.assignments(table, step.table, step.values, ended)
    rows = select(*row.values()).select_from(ended)
    return insert(table).from_select([*row], rows, include_defaults=False).returning(literal_column("1").label("one"))


def insert_for_bound(tables: ProfileTables, step: InsertStep, values: ValueCompiler, job: BoundRow) -> Insert:
    """Inserts the step's row for one job, whose columns are the statement's parameters."""
    table = tables.table(step.table)
    row = values.assignments(table, step.table, step.values, job)
    if not step.unless_there:
        return insert(table).values(row)
    is_absent = not_(is_there(tables, step, values, job))
    return insert(table).from_select([*row], select(*row.values()).where(is_absent), include_defaults=False)
