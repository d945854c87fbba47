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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Insert,
    ScalarSelect,
    Select,
    String,
    Update,
    and_,
    cast,
    func,
    insert,
    literal,
    literal_column,
    not_,
    select,
    true,
    update,
)

from reaper import sql
from reaper.model import Key, Reaped, ReaperError, Reason, Verdict
from reaper.profile import FromColumn, Known, Value
from reaper.rule import Moment, Rule
from reaper.schema import Schema, key_parameters, own_name
from reaper.source.evidence import KEY, KEY_TEXT, copied, judged
from reaper.source.survey import Candidate, identity
from reaper.sql import Element


class HalfDone(ReaperError):
    """The database made a transition without its audit event, or the other way round, and was rolled back."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who ends the jobs, and in which sweep: part of every audit event. `operator` is a person who decided it."""

    source: str
    sweep_id: str
    host: str
    reason: Reason = Reason.JOB_TIMEOUT
    message: str | None = None
    operator: str | None = None

    def members(self) -> dict[str, Element]:
        return {
            "reason": literal(self.reason.value, String),
            "source": literal(self.source, String),
            "sweep_id": literal(self.sweep_id, String),
            "host": literal(self.host, String),
            **{name: literal(text, String) for name, text in self._decided.items()},
        }

    @property
    def _decided(self) -> dict[str, str]:
        """What only a person's decision has; a sweep's message follows from its evidence."""
        given = {"operator": self.operator, "message": self.message}
        return {name: text for name, text in given.items() if text is not None}


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
        rows = connection.execute(self.lock, key_parameters(claims))
        held = {row[: self._width]: row[self._width :] for row in rows}
        mine = [key for key, claim in held.items() if claims[key] == claim]
        reaped = self._act(connection, mine) if mine else []
        missing = [key for key in claims if key not in held]
        locked = self._locked(connection, missing, claims) if missing else []
        return Claimed(reaped=reaped, lost=len(batch) - len(reaped) - len(locked), locked=locked)

    def seen(self, connection: Connection, keys: Sequence[Key]) -> list[Candidate]:
        """Those of the jobs that run, as they are now, whether somebody holds their rows or not."""
        rows = connection.execute(self.still_running, key_parameters(keys))
        return [Candidate(row[: self._width], row[self._width :]) for row in rows]

    def _act(self, connection: Connection, keys: Sequence[Key]) -> list[Reaped]:
        rows = connection.execute(self.end, key_parameters(keys)).all()
        done = [row for row in rows if row.ended]
        self._both_or_neither(rows[0]._mapping, len(done))
        width, reason = self._width, self._stamp.reason.value
        return [Reaped(row[:width], reason, *row[width : width + 4]) for row in done]

    def _both_or_neither(self, counted: Mapping[Any, Any], ended: int) -> None:
        """A trigger or rule of the user's may swallow a row without a word."""
        table = self._schema.profile.jobs.table
        if counted["judged"] != ended:
            raise HalfDone(
                f"{table}: {counted['judged']} rows are stale and {ended} changed: a trigger or rule interferes"
            )
        for n, also in enumerate(self._action.also):
            if counted[f"also_{n}"] != ended:
                raise HalfDone(
                    f"{also.table}: {counted[f'also_{n}']} rows written for {ended} changed ones of {table}: "
                    "a trigger or rule interferes"
                )

    def _locked(self, connection: Connection, missing: Sequence[Key], claims: dict[Key, tuple[Any, ...]]) -> list[Key]:
        return [job.key for job in self.seen(connection, missing) if claims[job.key] == job.claim]

    # --- statements ----------------------------------------------------------------------------------------

    def _still_running(self) -> Select[Any]:
        jobs = self._schema.jobs
        mine = and_(self._schema.keyed(self._schema.key(jobs)), self._schema.running(jobs))
        return select(*self._schema.key_text(jobs), *identity(self._rule)).where(mine)

    def _lock(self) -> Select[Any]:
        return self._still_running().with_for_update(skip_locked=True)

    def _end(self) -> Select[Any]:
        """Judge, change, write the audit and tell what was done, in one statement with one snapshot."""
        jobs, key = self._schema.jobs, self._schema.key(self._schema.jobs)
        wanted = and_(self._schema.keyed(key), self._schema.running(jobs))
        if self._judge:
            wanted = and_(wanted, self._rule.still_stale(jobs, self._moment))
        verdict = Verdict.STALE if self._judge else None
        doomed = judged(self._rule, jobs, self._moment, wanted, self._stamp.members(), verdict)
        ended = self._transition(doomed).cte(own_name("ended"))
        also = [self._insert(n, ended).cte(own_name(f"also_{n}")) for n in range(len(self._action.also))]
        # Counted apart from the rows, so that an update which changes nothing still says how many it should have. A
        # trigger may also let the row be written, and put the old state back: such a job has not ended.
        counts = select(
            _count(doomed).label("judged"), *(_count(cte).label(f"also_{n}") for n, cte in enumerate(also))
        ).subquery(own_name("counts"))
        told = [
            *(ended.c[KEY_TEXT.format(n)] for n in range(self._width)),
            ended.c.kind,
            *_measures(ended),
            ended.c.witness,
        ]
        return select(*told, func.coalesce(not_(ended.c.still_runs), False).label("ended"), *counts.c).select_from(
            counts.outerjoin(ended, true())
        )

    def _transition(self, doomed: CTE) -> Update:
        jobs = self._schema.jobs
        theirs = [doomed.c[name] for name in self._key_names()]
        values = {jobs.c[name]: self._value(value, doomed) for name, value in self._action.assign.items()}
        return (
            update(jobs)
            .values(values)
            .where(Schema.same(self._schema.key(jobs), theirs), self._schema.running(jobs))
            .returning(*doomed.c, self._schema.running(jobs).label("still_runs"))
        )

    def _insert(self, n: int, ended: CTE) -> Insert:
        """Reads what the update returned: a job that did not change gets no audit event."""
        also = self._action.also[n]
        table = self._schema.table(also.table)
        rows = select(*(self._value(value, ended) for value in also.values.values())).select_from(ended)
        written = insert(table).from_select([table.c[name] for name in also.values], rows, include_defaults=False)
        return written.returning(literal_column("1").label("one"))

    def _key_names(self) -> list[str]:
        return [KEY.format(n) for n in range(self._width)]

    def _value(self, value: Value, doomed: CTE) -> Element:
        if isinstance(value, FromColumn):
            return doomed.c[copied(self._schema.profile, value.column)]
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


def _measures(job: CTE) -> list[Element]:
    return [cast(job.c[name], sql.FLOAT).label(name) for name in ("age", "silence")]


def _count(cte: CTE) -> ScalarSelect[int]:
    return select(func.count()).select_from(cte).scalar_subquery()
