"""Recipes: the statements with which a person ends one job by hand, in psql or the MariaDB client.

One recipe is one transaction. Its first statements wait for the locks that a reap would take. What others can do
between two of its statements is therefore what they can do between those of a reap (`reaper.source.reap`). Each
statement that changes something asks again whether the job runs, with the start and the claim that it had: pasted a
second time, or after the worker has finished or has begun another run, the recipe changes nothing. A `next` value is
written out as it is when the recipe is printed, and it is only written where the row still has the value that it had
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ClauseElement,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    FromClause,
    Select,
    TableClause,
    and_,
    delete,
    insert,
    literal_column,
    not_,
    select,
    update,
)
from sqlalchemy.sql.dml import Update

from reaper.database.dialect import dialect_of
from reaper.database.postgresql.search_path import SETS_PATH, pinned_path
from reaper.model import Key
from reaper.profile import Action, Delete, Insert, Next, Step, Values
from reaper.profile import Update as UpdateStep
from reaper.source import AuditInfo, Source
from reaper.source.evidence import KEY
from reaper.source.transition.due_steps import due_column, is_there
from reaper.source.transition.related_rows import change_related_rows
from reaper.source.transition.second_check import SecondCheck, is_any
from reaper.source.transition.values import BoundRow, Target
from reaper.sql import expressions as sql
from reaper.sql.expressions import OWN_PATH, Element, Writing
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.sql_listing.literals import with_literals
from reaper.sql_listing.writer import folded_lines
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext


@dataclass(frozen=True, slots=True)
class Recipe:
    """One action on one job, as lines to paste. `same` are other actions of the profile that do exactly this."""

    action: str
    same: Sequence[str]
    lines: Sequence[str]


def list_recipes(
    source: Source, downtime: DowntimeTracker, key: Key, audit_info: Callable[[str], AuditInfo]
) -> list[Recipe]:
    """How a person ends one job by hand, by each action of the profile; none when the job does not run.

    Reads the job, and changes nothing. `audit_info` gives what the audit event of an action holds. Raises
    DatabaseUnavailable and DBAPIError.
    """
    written = list[Recipe]()
    with source.connect() as connection:
        # Once connected: the names in the profile are then those of the database.
        actions = source.profile.actions
        leaders = {name: _leader(actions, name) for name in actions}
        context = source.begin_evaluation(connection, downtime)
        with source.transaction(connection, read_only=True):
            for name in dict.fromkeys(leaders.values()):
                transition = _Transition(source, connection, context, key, audit_info(name), name)
                if not transition.runs:
                    return []
                same = [other for other, leader in leaders.items() if leader == name and other != name]
                lines = list(_transaction(connection.dialect, transition.statements(), source.lookup_schemas))
                written.append(Recipe(name, same, lines))
    return written


def _leader(actions: Mapping[str, Action], name: str) -> str:
    """The action under whose name all that do the same are printed: not `fail`, where another name says more."""
    same = [other for other in actions if actions[other] == actions[name]]
    return next((other for other in same if other != "fail"), name)


def _transaction(
    dialect: Dialect, statements: Iterator[tuple[str, str]], lookup_schemas: Sequence[str]
) -> Iterator[str]:
    """On PostgreSQL each statement that changes something sets the reaper's path, for triggers; the next one is pinned
    again, as the person's own path may lead to functions and operators of others."""
    postgresql = dialect.name == "postgresql"
    pin = f"SET LOCAL search_path = {pinned_path(lookup_schemas)};"
    yield from ("BEGIN;", pin, "SET LOCAL TimeZone = 'UTC';") if postgresql else _MARIADB_BEGIN
    written = False
    for purpose, statement in statements:
        if written:
            yield pin
        yield f"-- {purpose}"
        yield from folded_lines(f"{statement};").split("\n")
        written = postgresql and SETS_PATH in statement
    yield from ("COMMIT;",) if postgresql else _MARIADB_END


# The client goes on after an error. The block does not, and takes everything back.
_MARIADB_BEGIN = (
    "DELIMITER //",
    "BEGIN NOT ATOMIC",
    "DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; SET time_zone = @reaper_zone; RESIGNAL; END;",
    "SET @reaper_zone = @@time_zone, time_zone = '+00:00';",
    "START TRANSACTION;",
)
_MARIADB_END = ("COMMIT;", "SET time_zone = @reaper_zone;", "END //", "DELIMITER ;")


_JUDGED = frozenset({"kind", "age", "silence", "witness", "evidence", "message"})


class _Transition:
    """The statements of one action on one job."""

    def __init__(
        self,
        source: Source,
        connection: Connection,
        context: EvaluationContext,
        key: Key,
        audit_info: AuditInfo,
        action: str,
    ) -> None:
        statements = source.statements
        rule = statements.new_rule()
        self._tables, self._profile, self._action = rule.tables, source.profile, source.profile.actions[action]
        self._connection, self._dialect = connection, connection.dialect
        check = SecondCheck(rule, is_any, tuple(audit_info.fields), action)
        values = {**statements.values(context), **audit_info.values, **key_parameters([key])}
        # Before the job is judged: a run that begins in between is another one than that of these values.
        self._version = self._read_version(values)
        row = self._execute(select(*self._read(check.to_end)), values).one_or_none()
        self.runs = row is not None
        own_path = {OWN_PATH: dialect_of(connection).own_path(connection)}
        self._found = {**values, **own_path, **(BoundRow.parameters(row) if row is not None else {})}
        self._values, self._job = check.values, BoundRow(check.to_end)
        steps = enumerate(self._action.also)
        self._due = {n: bool(row._mapping[due_column(0, n)]) for n, step in steps if step.when and row is not None}

    def _execute(self, query: Select[Any], values: Mapping[str, Any]) -> CursorResult[Any]:
        return CompiledStatement(query, self._dialect).execute(self._connection, values)

    def _read_version(self, values: Mapping[str, Any]) -> Mapping[str, str | None]:
        """The texts of the start and claim columns, which tell one run of a job from the next; none of a log's."""
        mapping, jobs = self._profile.jobs, self._tables.jobs
        names = list(dict.fromkeys((*mapping.started, *mapping.claim)))
        if mapping.log is not None:
            return {}
        query: Select[Any] = select(*(sql.text_of(self._tables.job_column(jobs, name)) for name in names))
        row = self._execute(query.where(self._tables.key_in_batch(jobs)), values).one_or_none()
        return dict(zip(names, row, strict=True)) if row is not None else {}

    def _read(self, job: CTE) -> Iterator[Element]:
        """What the statements may need of the job.

        PostgreSQL reads a value of any type from its text; Python's dates cannot hold all that a column can.
        """
        for column in job.c:
            if self._dialect.name == "postgresql" and column.name.startswith(("key_", "row_")):
                yield sql.text_of(column).label(column.name)
            elif column.name.startswith(("key_", "text_", "row_", "due_")) or column.name in _JUDGED:
                yield column

    def statements(self) -> Iterator[tuple[str, str]]:
        """The purpose and the text of each statement, in the order in which they are pasted."""
        for purpose, clause in self._clauses():
            yield purpose, with_literals(clause, self._dialect, self._found)

    def _clauses(self) -> Iterator[tuple[str, ClauseElement]]:
        yield from self._locks()
        for n, step in enumerate(self._action.also):
            if step.when and not self._due[n]:
                continue
            yield f"Belongs to the job: {step.table}.", self._step(step)
        jobs = self._tables.jobs
        if self._action.delete:
            yield "The job itself.", self._along_own_path(delete(jobs).where(self._is_job(jobs)))
        elif self._action.assign is not None:
            yield (
                "The job itself.",
                self._update(jobs, self._profile.jobs.table, self._action.assign, self._is_job(jobs)),
            )

    def _locks(self) -> Iterator[tuple[str, ClauseElement]]:
        jobs, log = self._tables.jobs, self._profile.jobs.log
        if log is not None and log.lock == "table":
            yield "Keeps others from writing to the log until the commit.", sql.LockTable(jobs)
        if log is None:
            row: Select[Any] = select(literal_column("*")).select_from(jobs).where(self._is_job(jobs))
            yield "The job. Without a row it does not run any more, and nothing is changed.", row.with_for_update()
        for part in self._profile.jobs.parts:
            table = self._tables.table(part.table)
            job = jobs.alias(reserved_alias("job"))
            owner: Select[Any] = select(literal_column("1")).select_from(job)
            owner = owner.where(self._is_job(job), self._tables.belongs_to_job(part, table, job))
            rows: Select[Any] = select(literal_column("*")).select_from(table)
            yield f"Its rows of {part.table}.", rows.where(owner.correlate(table).exists()).with_for_update()

    def _is_job(self, jobs: Any) -> ColumnElement[bool]:
        key: list[Element] = [self._job.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        same_run = (
            column.is_(None) if text is None else column == sql.untyped(text)
            for column, text in ((self._tables.job_column(jobs, name), text) for name, text in self._version.items())
        )
        return and_(ProfileTables.keys_equal(self._tables.key(jobs), key), self._runs(jobs), *same_run)

    def _runs(self, jobs: Any) -> ColumnElement[bool]:
        """As far as tables say it that the recipe itself does not change."""
        if self._tables.running_depends_on(self._action.also):
            return self._tables.running_by_own_row(jobs)
        return self._tables.running(jobs)

    def _still_runs(self) -> ColumnElement[bool]:
        job = self._tables.jobs.alias(reserved_alias("job"))
        return select(literal_column("1")).select_from(job).where(self._is_job(job)).exists()

    def _step(self, step: Step) -> ClauseElement:
        if isinstance(step, Insert):
            table = self._tables.table(step.table)
            row = self._values.assignments(table, step.table, step.values, self._job)
            values = self._along_own_path(select(*row.values()).where(self._still_runs()))
            if step.unless_there:
                values = values.where(not_(is_there(self._tables, step, self._values, self._job)))
            return insert(table).from_select([*row], values, include_defaults=False)
        if isinstance(step, Delete):
            deletion = change_related_rows(self._tables, step, self._values, self._job)
            return self._along_own_path(deletion.where(self._still_runs()))
        table = self._tables.table(step.table)
        return self._update(table, step.table, step.assign, self._belongs(step, table)).where(self._still_runs())

    def _belongs(self, step: UpdateStep, table: FromClause) -> ColumnElement[bool]:
        matching = [table.c[theirs] == self._values.row_column(ours, self._job) for theirs, ours in step.match.items()]
        return and_(*matching, self._tables.conditions_hold(step.where, table, step.table))

    def _update(self, table: TableClause, name: str, assign: Values, where: ColumnElement[bool]) -> Update:
        changed = update(table).values(self._values.assignments(table, name, assign, self._job, updated=table))
        for column, value in assign.items():
            if isinstance(value, Next):
                changed = self._moved(changed, Target(name, column, table), value, where)
        return self._along_own_path(changed.where(where))

    def _along_own_path(self, statement: Writing) -> Writing:
        return sql.along_own_path(statement, self._dialect)

    def _moved(self, changed: Update, target: Target, value: Next, where: ColumnElement[bool]) -> Update:
        """The update with the next value written out, for a row that still has its present value.

        As it is where several rows with different values are updated: no single value could be written.
        """
        assert target.updated is not None
        column: Element = target.updated.c[target.column]
        after = sql.text_of(self._values.value(value, self._job, target))
        query: Select[Any] = select(after.label("new"), sql.text_of(column).label("old"))
        query = query.select_from(target.updated).where(where).distinct().limit(2)
        rows = self._execute(query, self._found).all()
        if len(rows) != 1:
            return changed
        return changed.values({column: sql.untyped(rows[0].new)}).where(column == sql.untyped(rows[0].old))
