"""The same as `single_statement`, in several statements: for servers that change nothing inside a query.

One query judges, with one snapshot; what it found goes into the statements that change rows, bound. Between them nobody
else can do anything to a job: its rows are locked. All of them are one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    ClauseElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.dml import UpdateBase

from reaper.model import Key
from reaper.profile import Action, Delete, Insert, Step, Update, Value
from reaper.source.evidence import KEY, KEY_TEXT, row_alias
from reaper.source.transition.result import EndedJob, RowCounts, check_complete
from reaper.source.transition.second_check import SecondCheck, attempts_left
from reaper.source.transition.values import Target
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables
from reaper.staleness.rule import Rule

_FOUND = "found_{}"
_LEFT = "attempts_left"


class BoundRow:
    """One judged job, column by column, as parameters: each row of the query is bound to them."""

    def __init__(self, doomed: CTE) -> None:
        self.c: Mapping[str, BindParameter[Any]] = {
            column.name: bindparam(_FOUND.format(column.name), type_=column.type) for column in doomed.c
        }

    @staticmethod
    def parameters(row: Row[Any]) -> dict[str, Any]:
        return {_FOUND.format(name): value for name, value in row._mapping.items()}


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the transitions: the jobs it is for, its statement, and those that go with it, first the children's."""

    left: bool | None
    action: Action
    transition: UpdateBase
    also: Sequence[UpdateBase]

    @property
    def first(self) -> list[int]:
        """Those of `also` that go before the transition: what belongs to a row that is deleted.

        Here, each statement has to leave every reference whole.
        """
        return [n for n, step in enumerate(self.action.also) if self.action.delete and isinstance(step, Delete)]


class MultiStatementTransition:
    """Ends locked jobs. `judging` is the query; its parameters are the keys of the batch."""

    def __init__(self, rule: Rule, judging: SecondCheck, choice: str) -> None:
        self._schema, self._profile = rule.tables, rule.tables.profile
        self._writing = judging.writing
        self._found = BoundRow(judging.to_end)
        left = [attempts_left(self._profile, judging.to_end).label(_LEFT)] if self._profile.attempts else []
        self.judging: Select[Any] = select(*judging.to_end.c, *left)
        self.branches = [self._arm(left, action) for left, action in self._profile.branches(choice)]
        jobs = self._schema.jobs
        self.still_running = select(*self._schema.key_text(jobs)).where(
            self._schema.key_in_batch(jobs), self._schema.running(jobs)
        )

    @property
    def statements(self) -> dict[str, ClauseElement]:
        """What is run, by its name."""
        found: dict[str, ClauseElement] = {"judge": self.judging}
        for number, arm in enumerate(self.branches):
            found[f"transition_{number}"] = arm.transition
            found |= {f"also_{number}_{n}": also for n, also in enumerate(arm.also)}
        return {**found, "undone": self.still_running}

    def run(self, connection: Connection, keys: Sequence[Key]) -> list[EndedJob]:
        """Those of the jobs that have been ended. Raises HalfDone when a change or what goes with it is missing."""
        rows = connection.execute(self.judging, key_parameters(keys)).all()
        told: list[EndedJob] = []
        for arm in self.branches:
            mine = [row for row in rows if arm.left is None or bool(row._mapping[_LEFT]) == arm.left]
            if mine:
                told += self._end(connection, arm, mine)
        return told

    def _end(self, connection: Connection, arm: Branch, rows: Sequence[Row[Any]]) -> list[EndedJob]:
        given = [BoundRow.parameters(row) for row in rows]
        counted = {n: connection.execute(arm.also[n], given).rowcount for n in arm.first}
        ended = connection.execute(arm.transition, given).rowcount
        counted |= {
            n: connection.execute(also, given).rowcount for n, also in enumerate(arm.also) if n not in arm.first
        }
        told = [self._told(row, arm.action) for row in rows]
        # A trigger may let a row be written and put the old state back: such a job has not ended.
        ended -= len(connection.execute(self.still_running, key_parameters([job.key for job in told])).all())
        inserts = {n: counted[n] for n, step in enumerate(arm.action.also) if isinstance(step, Insert)}
        check_complete(self._profile, arm.action, RowCounts(len(rows), ended, inserts))
        return told

    def _told(self, row: Row[Any], action: Action) -> EndedJob:
        found, task = row._mapping, self._profile.task
        width = len(self._profile.jobs.key)
        return EndedJob(
            key=tuple(found[KEY_TEXT.format(n)] for n in range(width)),
            kind=found["kind"],
            age=_number(found["age"]),
            silence=_number(found["silence"]),
            witness=found["witness"],
            task=found[row_alias(self._profile, task.task)] if task else None,
            evidence=None if action.writes_evidence else found["evidence"],
            action=action,
        )

    # --- statements --------------------------------------------------------------------------------------------

    def _arm(self, left: bool | None, action: Action) -> Branch:
        return Branch(left, action, self._transition(action), [self._step(step) for step in action.also])

    def _transition(self, action: Action) -> UpdateBase:
        jobs, name = self._schema.jobs, self._profile.jobs.table
        theirs: list[Element] = [self._found.c[KEY.format(n)] for n in range(len(self._profile.jobs.key))]
        # Not by an index on what says that it runs: its entries would be locked before the row is.
        runs = func.coalesce(self._schema.running_by_own_row(jobs), False)
        mine = and_(ProfileTables.keys_equal(self._schema.key(jobs), theirs), runs)
        if action.delete:
            return delete(jobs).where(mine)
        return update(jobs).values(self._values(name, action.assign or {}, jobs)).where(mine)

    def _step(self, step: Step) -> UpdateBase:
        table = self._schema.table(step.table)
        if isinstance(step, Insert):
            return insert(table).values(self._values(step.table, step.values, None))
        matching = [table.c[theirs] == self._copy(ours) for theirs, ours in step.match.items()]
        theirs = and_(*matching, self._schema.conditions_hold(step.where, table, step.table))
        if isinstance(step, Update):
            return update(table).values(self._values(step.table, step.assign, table)).where(theirs)
        return delete(table).where(theirs)

    def _values(self, table: str, values: Mapping[str, Value], row: Any) -> dict[Any, Element]:
        columns = self._schema.table(table).c
        return {
            columns[name]: self._writing.value(value, self._found, Target(table, name, row))
            for name, value in values.items()
        }

    def _copy(self, column: str) -> Element:
        return self._found.c[row_alias(self._profile, column)]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
