"""The transition in several statements, for servers that change no rows inside a query (MariaDB).

One query judges the jobs, in one snapshot. Its rows are bound to the statements that change tables. All are in one
transaction, whose jobs `reaper.source.reap` has locked before. What others can do between two of these statements:

- A worker's sign of life, its finish, and an operator's change of a job need the lock on the job's row: they wait for
  our commit, and then find the job ended.
- A second reaper skips the locked rows.
- If this process is killed, or the server stops or fails over before the commit, none of the changes remains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, literal_column, select, update
from sqlalchemy.sql.dml import UpdateBase

from reaper.model import Key
from reaper.profile import Action, Delete, Insert, Step
from reaper.source.evidence import FIRST, KEY, KEY_TEXT
from reaper.source.transition.audit_event import insert_for_bound
from reaper.source.transition.due_steps import due_column, is_there
from reaper.source.transition.related_rows import change_related_rows
from reaper.source.transition.result import EndedJob, RowCounts, check_complete
from reaper.source.transition.second_check import SecondCheck
from reaper.source.transition.values import BoundRow
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement, StatementCompiler, Values
from reaper.sql.tables import ProfileTables
from reaper.sql.types import document_of
from reaper.staleness.rule import Rule


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the transitions: which jobs it is for, its statement, and those of the action's other steps.

    `there` looks for the row of each insert that is made only where none is there, by the number of the step.
    Where the action is a choice, `first` says whether it is for the jobs that get the first action or for the others;
    None: it is for all jobs.
    """

    number: int
    first: bool | None
    action: Action
    transition: CompiledStatement
    also: Sequence[CompiledStatement]
    there: Mapping[int, CompiledStatement]

    @property
    def before_transition(self) -> list[int]:
        """The steps that run before the transition: deletes of rows that refer to a job which is deleted.

        Each statement by itself must leave every foreign key whole.
        """
        return [n for n, step in enumerate(self.action.also) if self.action.delete and isinstance(step, Delete)]


class MultiStatementTransition:
    """Ends locked jobs: `judging` says which, and each of the branches ends some of them."""

    def __init__(self, rule: Rule, compiler: StatementCompiler, second_check: SecondCheck, action: str) -> None:
        self._profile = rule.tables.profile
        queries = _TransitionQueries(rule.tables, second_check)
        self.judging = compiler(queries.judging())
        self.branches = [
            Branch(
                number,
                first,
                branch_action,
                compiler(queries.transition(branch_action)),
                [compiler(queries.step(step)) for step in branch_action.also],
                {n: compiler(queries.there(step)) for n, step in enumerate(branch_action.also) if looks_first(step)},
            )
            for number, (first, branch_action) in enumerate(self._profile.branches(action))
        ]
        self.still_running = compiler(queries.still_running())
        self._task = rule.tables.row_alias(self._profile.task.task) if self._profile.task else None

    @property
    def actions(self) -> list[Action]:
        """The action of each branch."""
        return [branch.action for branch in self.branches]

    @property
    def statements(self) -> dict[str, CompiledStatement]:
        """The statements by name."""
        statements = {"judge": self.judging}
        for number, branch in enumerate(self.branches):
            statements[f"transition_{number}"] = branch.transition
            for n, also in enumerate(branch.also):
                statements[f"also_{number}_{n}"] = also
                statements |= {f"there_{number}_{n}": branch.there[n]} if n in branch.there else {}
        return {**statements, "undone": self.still_running}

    def run(self, connection: Connection, keys: Sequence[Key], values: Values) -> list[EndedJob]:
        """End those of the jobs that are to be ended. Raises PartialTransition when a row of theirs is missing."""
        rows = self.judging.execute(connection, {**values, **key_parameters(keys)}).all()
        ended: list[EndedJob] = []
        for branch in self.branches:
            first = branch.first
            branch_rows = [row for row in rows if first is None or bool(row._mapping[FIRST]) == first]
            if branch_rows:
                ended += self._end(connection, branch, branch_rows, values)
        return ended

    def _end(self, connection: Connection, branch: Branch, rows: Sequence[Row[Any]], values: Values) -> list[EndedJob]:
        parameters = [{**values, **BoundRow.parameters(row)} for row in rows]
        steps = {n: _due(branch, n, step, rows, parameters) for n, step in enumerate(branch.action.also)}
        before = branch.before_transition
        for n in before:
            branch.also[n].execute_many(connection, steps[n])
        changed = branch.transition.execute_many(connection, parameters)
        after = (n for n in range(len(branch.also)) if n not in before)
        counts = {n: _take(connection, branch, n, steps[n]) for n in after}
        ended = [self._ended_job(row, branch.action) for row in rows]
        # A trigger may let a row be written and put the old state back: such a job has not ended.
        changed -= len(self.still_running.execute(connection, key_parameters([job.key for job in ended])).all())
        inserted = {n: counts[n] for n, step in enumerate(branch.action.also) if isinstance(step, Insert)}
        due = {n: len(steps[n]) for n in inserted}
        check_complete(self._profile, branch.action, RowCounts(len(rows), changed, inserted, due))
        return ended

    def _ended_job(self, row: Row[Any], action: Action) -> EndedJob:
        columns, width = row._mapping, len(self._profile.jobs.key)
        return EndedJob(
            key=tuple(columns[KEY_TEXT.format(n)] for n in range(width)),
            kind=columns["kind"],
            age=_number(columns["age"]),
            silence=_number(columns["silence"]),
            witness=columns["witness"],
            task=columns[self._task] if self._task else None,
            evidence=None if action.writes_evidence else document_of(columns["evidence"]),
            action=action,
        )


def looks_first(step: Step) -> bool:
    """Whether it inserts a row only where none is there."""
    return isinstance(step, Insert) and bool(step.unless_there)


def _due(
    branch: Branch, number: int, step: Step, rows: Sequence[Row[Any]], parameters: Sequence[Values]
) -> Sequence[Values]:
    """The parameters of those jobs that meet the condition of a step."""
    if not step.when:
        return parameters
    name = due_column(branch.number, number)
    return [bound for row, bound in zip(rows, parameters, strict=True) if row._mapping[name]]


def _take(connection: Connection, branch: Branch, number: int, jobs: Sequence[Values]) -> int:
    """Take a step for these jobs. Returns how many rows it wrote; of `unless_there`, how many jobs have their row."""
    if not jobs:
        return 0
    written = branch.also[number].execute_many(connection, jobs)
    if (there := branch.there.get(number)) is None:
        return written
    return sum(len(there.execute(connection, bound).all()) for bound in jobs)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


class _TransitionQueries:
    """Builds the statements for the columns of the query that judges."""

    def __init__(self, tables: ProfileTables, second_check: SecondCheck) -> None:
        self._tables, self._profile = tables, tables.profile
        self._values, self._to_end = second_check.values, second_check.to_end
        self._job = BoundRow(second_check.to_end)

    def judging(self) -> Select[Any]:
        """A row for each job of a batch that is to be ended. No statement writes its kind or its status."""
        shown = {"kind", "status"}
        return select(*(sql.shortened(c).label(c.name) if c.name in shown else c for c in self._to_end.c))

    def still_running(self) -> Select[Any]:
        """The jobs of a batch that run."""
        jobs = self._tables.jobs
        is_running_in_batch = and_(self._tables.key_in_batch(jobs), self._tables.running(jobs))
        return select(*self._tables.key_text(jobs)).where(is_running_in_batch)

    def transition(self, action: Action) -> UpdateBase:
        """Ends one job."""
        jobs, name = self._tables.jobs, self._profile.jobs.table
        key: list[Element] = [self._job.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        # Wrapped, so that no index on the running columns is used: its entries would be locked before the row is.
        runs = func.coalesce(self._tables.running_by_own_row(jobs), False)
        is_job = and_(ProfileTables.keys_equal(self._tables.key(jobs), key), runs)
        if action.delete:
            return delete(jobs).where(is_job)
        values = self._values.assignments(jobs, name, action.assign or {}, self._job, updated=jobs)
        return update(jobs).values(values).where(is_job)

    def step(self, step: Step) -> UpdateBase:
        """Another step of the action, for one job."""
        if isinstance(step, Insert):
            return insert_for_bound(self._tables, step, self._values, self._job)
        return change_related_rows(self._tables, step, self._values, self._job)

    def there(self, step: Step) -> Select[Any]:
        """One row where the row of `unless_there` exists for one job."""
        assert isinstance(step, Insert)
        return select(literal_column("1")).where(is_there(self._tables, step, self._values, self._job))
