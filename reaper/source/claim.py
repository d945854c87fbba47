"""Ending jobs: lock, judge again, act.

One transaction ends one batch, in three statements:

1. lock the candidates by key, skipping rows that somebody holds: whoever holds a row is alive;
2. in a new statement, whose snapshot sees everything committed before the lock, ask the rule again and, for what is
   still stale, make the transition and write the audit event with its evidence;
3. commit.

Between any two of these a worker can commit a sign of life only through a lock on the job's row (the foreign key of
its event needs a key-share lock, its own finish an update lock), and all rows of step 2 are locked by step 1. A second
reaper skips what this one has locked, and finds it ended afterwards. If the process dies anywhere before the commit,
the server rolls everything back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Executable,
    Insert,
    Select,
    String,
    Update,
    and_,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from reaper import sql
from reaper.model import Key, Reaped, ReaperError, Reason, Verdict
from reaper.profile import FromColumn, Known, Value
from reaper.rule import Moment, Rule
from reaper.schema import Schema, key_parameters
from reaper.source.evidence import KEY, ROW, judged
from reaper.source.survey import Candidate, candidate, identity
from reaper.sql import Element


class HalfDone(ReaperError):
    """The database made a transition without its audit event, or the other way round, and was rolled back."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who ends the jobs, and in which sweep: part of every audit event."""

    source: str
    sweep_id: str
    host: str
    reason: Reason = Reason.JOB_TIMEOUT
    message: str | None = None

    def members(self) -> dict[str, Element]:
        return {
            "reason": literal(self.reason.value, String),
            "source": literal(self.source, String),
            "sweep_id": literal(self.sweep_id, String),
            "host": literal(self.host, String),
        }


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a batch. `reaped + lost + locked` are all of it."""

    reaped: Sequence[Reaped]
    lost: int
    locked: Sequence[Key]


class Claim:
    """The changing statements for one rule, as of one moment."""

    def __init__(self, rule: Rule, moment: Moment, stamp: Stamp, *, judge: bool = True, action: str = "fail") -> None:
        self._schema: Schema = rule.schema
        self._rule, self._moment, self._stamp = rule, moment, stamp
        self._judge = judge
        self._action = rule.schema.profile.actions[action]
        self._width = len(rule.schema.profile.jobs.key)
        self.lock = self._lock()
        self.still_running = self._still_running()
        self.end = self._end()

    def run(self, connection: Connection, batch: Sequence[Candidate]) -> Claimed:
        """End what is stale of the batch, inside the caller's transaction.

        Raises DBAPIError when the database refuses any of it, HalfDone when transition and audit came apart.
        """
        claims = {c.key: c.claim for c in batch}
        held = [candidate(tuple(row), self._width) for row in connection.execute(self.lock, _keys(list(claims)))]
        mine = [c.key for c in held if claims[c.key] == c.claim]
        reaped = self._act(connection, mine) if mine else []
        missing = [key for key in claims if key not in {c.key for c in held}]
        locked = self._locked(connection, missing, claims) if missing else []
        return Claimed(reaped=reaped, lost=len(batch) - len(reaped) - len(locked), locked=locked)

    def _act(self, connection: Connection, keys: Sequence[Key]) -> list[Reaped]:
        rows = connection.execute(self.end, _keys(keys)).all()
        ended = sum(row.ended for row in rows)
        for row in rows[:1]:
            written = row._mapping
            for n, also in enumerate(self._action.also):
                if written[f"also_{n}"] != ended:
                    raise HalfDone(
                        f"{ended} rows of {self._schema.profile.jobs.table} changed, "
                        f"{written[f'also_{n}']} written to {also.table}: a trigger or rule swallows one of them"
                    )
        if ended != len(rows):
            raise HalfDone(
                f"{len(rows) - ended} stale rows of {self._schema.profile.jobs.table} would not change: "
                "a trigger or rule swallows the update"
            )
        return [
            Reaped(
                key=tuple(row[: self._width]),
                kind=row.kind,
                reason=self._stamp.reason.value,
                age_seconds=row.age,
                silence_seconds=row.silence,
                witness=row.witness,
            )
            for row in rows
        ]

    def _locked(self, connection: Connection, missing: Sequence[Key], claims: dict[Key, tuple[Any, ...]]) -> list[Key]:
        rows = [candidate(tuple(r), self._width) for r in connection.execute(self.still_running, _keys(missing))]
        return [row.key for row in rows if claims[row.key] == row.claim]

    # --- statements ----------------------------------------------------------------------------------------

    def _still_running(self) -> Select[Any]:
        jobs = self._schema.jobs
        key = self._schema.key(jobs)
        return select(*key, *identity(self._rule)).where(self._schema.keyed(key), self._schema.running(jobs))

    def _lock(self) -> Select[Any]:
        return self._still_running().with_for_update(skip_locked=True)

    def _end(self) -> Executable:
        """Judge, change, write the audit and tell what was done, in one statement with one snapshot."""
        jobs, key = self._schema.jobs, self._schema.key(self._schema.jobs)
        wanted = and_(self._schema.keyed(key), self._schema.running(jobs))
        if self._judge:
            wanted = and_(wanted, self._rule.stale(jobs, self._moment))
        verdict = Verdict.STALE if self._judge else None
        doomed = judged(self._rule, jobs, self._moment, wanted, self._stamp.members(), verdict)
        ended = self._transition(doomed).cte("ended")
        also = [self._insert(n, doomed, ended).cte(f"also_{n}") for n in range(len(self._action.also))]
        names = [KEY.format(n) for n in range(self._width)]
        return select(
            *(doomed.c[name] for name in names),
            doomed.c.kind,
            doomed.c.age,
            doomed.c.silence,
            doomed.c.witness,
            ended.c[names[0]].is_not(None).label("ended"),
            *(select(func.count()).select_from(cte).scalar_subquery().label(cte.name) for cte in also),
        ).select_from(doomed.outerjoin(ended, _same_key(doomed, ended, names)))

    def _transition(self, doomed: CTE) -> Update:
        jobs = self._schema.jobs
        key = self._schema.key(jobs)
        theirs = [doomed.c[KEY.format(n)] for n in range(self._width)]
        values = {jobs.c[name]: self._value(value, doomed) for name, value in self._action.assign.items()}
        return (
            update(jobs)
            .values(values)
            .where(Schema.same(key, theirs), self._schema.running(jobs))
            .returning(*(column.label(KEY.format(n)) for n, column in enumerate(key)))
        )

    def _insert(self, n: int, doomed: CTE, ended: CTE) -> Insert:
        also = self._action.also[n]
        table = self._schema.table(also.table)
        names = [KEY.format(n) for n in range(self._width)]
        values = [self._value(value, doomed) for value in also.values.values()]
        rows = select(*values).select_from(doomed.join(ended, _same_key(doomed, ended, names)))
        written = insert(table).from_select([table.c[name] for name in also.values], rows, include_defaults=False)
        return written.returning(literal_column("1").label("one"))

    def _value(self, value: Value, doomed: CTE) -> Element:
        if isinstance(value, FromColumn):
            return doomed.c[ROW.format(value.column)]
        if not isinstance(value, Known):
            return sql.untyped(value)
        if value.known == "message" and self._stamp.message is not None:
            return literal(self._stamp.message, String)
        known: dict[str, Element] = {
            "now": sql.now(),
            "reason": literal(self._stamp.reason.value, String),
            "message": doomed.c.message,
            "evidence": doomed.c.evidence,
            "null": sql.untyped(None),
        }
        return known[value.known]


def _same_key(left: CTE, right: CTE, names: Sequence[str]) -> Any:
    return Schema.same([left.c[name] for name in names], [right.c[name] for name in names])


def _keys(keys: Sequence[Key]) -> dict[str, list[object]]:
    return key_parameters(keys)
