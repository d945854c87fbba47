"""What becomes of jobs after they have been ended: what a transition left behind, and what there is of a job now.

A sign of life that comes after a transition tells of a false kill, or of a worker that nobody has stopped. Heard are
the witnesses that speak of this one job: rows that match its whole key, and columns of its own row. Children are not
among them, whose own ends would speak for their parent, nor are workers, who live on without the job, nor deadlines,
which say until when a job may be silent and not when it was heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CTE, Connection, Label, RowMapping, Select, func, select

from reaper.model import Key, PostTransitionState
from reaper.profile import Action, Insert, Profile, Update, Value, Variable, Witness
from reaper.source.evidence import KEY_TEXT, SIGN, status_of
from reaper.source.survey import identity
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, key_parameters, reserved_alias
from reaper.staleness.rule import EvaluationContext, Rule

MAX_FOLLOWED = 5_000
"""Of how many of the jobs that one sweep ends it is known what is left of them."""

_IDENTITY = "same_{}"


class Sign(NamedTuple):
    """A moment on the database's clock: in seconds since 1970, which are compared, and as the database writes it."""

    epoch: float
    at: str


class JobSnapshot(NamedTuple):
    """A job now. `finished` is None where the profile does not tell that from waiting to be run.

    `entry`: its status is only that of the newest entry of its log, which does not end it. `signs` has the newest of
    each witness that has any, by its name.
    """

    identity: tuple[Any, ...]
    status: str | None
    running: bool
    finished: bool | None
    entry: bool
    finished_at: Sign | None
    signs: Mapping[str, Sign]


class FollowUp:
    """The statements for one rule."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self._schema, self._profile = rule, rule.tables, rule.tables.profile
        self._jobs = rule.tables.jobs
        self._width = len(self._profile.jobs.key)
        self._witnesses = [alive for alive in self._profile.alive if _speaks_of_one(self._profile, alive)]
        log = self._profile.jobs.log
        self._ends = {str(each) for each in log.ended} if log else None
        self._names = [element.name for element in self._identity()]
        now = sql.now()
        self.context = select(sql.epoch(now).label("epoch"), sql.json_object({"at": now}).label("at"))
        self.leaving = self._leaving()

    # --- in the transaction of the transition -------------------------------------------------------------------

    def remains(
        self, connection: Connection, ended: Mapping[Key, Action]
    ) -> tuple[str, dict[Key, PostTransitionState]]:
        """What the actions that ended these jobs left behind, as of now: after everything that they wrote.

        That moment, as the database writes it, comes first. Jobs are missing of which nothing is left.
        """
        now = connection.execute(self.context).one()
        epoch, width = float(now.epoch), self._width
        keys = [key for key, action in ended.items() if self.leaves(action)]
        rows = connection.execute(self.leaving, key_parameters(keys)).all() if keys else []
        requeue = self._profile.actions.get("requeue")
        found = {}
        for row in rows:
            key = row[:width]
            found[key] = PostTransitionState(epoch, row[width:-1], row[-1], ended[key] is requeue)
        return now.at["at"], found

    def leaves(self, action: Action) -> bool:
        """The row stays, and keeps its start or has none: it is not on its next run already."""
        moved = [value for name, value in (action.assign or {}).items() if name in self._profile.jobs.started]
        return not action.delete and all(isinstance(value, Variable) and value.name == "null" for value in moved)

    def _leaving(self) -> Select[Any]:
        return select(
            *self._schema.key_text(self._jobs),
            *self._identity(),
            self._status().label("status"),
        ).where(self._schema.is_job(self._jobs), self._schema.key_in_batch(self._schema.key(self._jobs)))

    def _identity(self) -> list[Label[Any]]:
        """What is another one as soon as the job is started anew."""
        same, attempts = identity(self._rule), self._profile.attempts
        if attempts:
            same.append(sql.text_of(self._jobs.c[attempts.column]))
        return [element.label(_IDENTITY.format(n)) for n, element in enumerate(same)]

    def _same(self, found: RowMapping) -> tuple[Any, ...]:
        return tuple(found[name] for name in self._names)

    def _status(self) -> Element:
        """What the row says of itself; of a log, the type of the newest entry."""
        log = self._profile.jobs.log
        if log is None:
            return status_of(self._profile, self._jobs)
        entry = self._schema.table(self._profile.jobs.table).alias(reserved_alias("entry"))
        mine = ProfileTables.keys_equal(self._schema.key(entry), self._schema.key(self._jobs))
        newest = select(sql.text_of(entry.c[log.type])).where(mine).order_by(entry.c[log.order].desc()).limit(1)
        return newest.correlate(self._jobs).scalar_subquery()

    # --- later --------------------------------------------------------------------------------------------------

    def look(self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]) -> dict[Key, JobSnapshot]:
        """Those of the jobs that are still there. Changes nothing. Raises DBAPIError."""
        rows = connection.execute(self.looking(context), key_parameters(keys))
        return {tuple(row[: self._width]): self._seen(row._mapping) for row in rows}

    def looking(self, context: EvaluationContext) -> Select[Any]:
        found = self._found(context)
        signs = {SIGN.format(n): found.c[SIGN.format(n)] for n in range(len(self._witnesses))}
        signs["finished_at"] = found.c.finished_at
        return select(
            *(found.c[KEY_TEXT.format(n)] for n in range(self._width)),
            *(found.c[name] for name in (*self._names, "status", "running", "finished")),
            *(sql.epoch(sign).label(name) for name, sign in signs.items()),
            sql.json_object(signs).label("at"),
        )

    def _found(self, context: EvaluationContext) -> CTE:
        purge, jobs = self._profile.purge, self._jobs
        table = self._profile.jobs.table
        finished = func.coalesce(self._schema.holds(purge.where, jobs, table), False) if purge else sql.no_text()
        ends = [self._schema.instant(table, jobs.c[name]) for name in purge.at] if purge else []
        signs = self._rule.newest_signs(jobs, context, self._witnesses)
        found = select(
            *(text.label(KEY_TEXT.format(n)) for n, text in enumerate(self._schema.key_text(jobs))),
            *self._identity(),
            self._status().label("status"),
            func.coalesce(self._schema.running(jobs), False).label("running"),
            finished.label("finished"),
            (func.coalesce(*ends, type_=sql.INSTANT) if ends else sql.no_instant()).label("finished_at"),
            *(sign.label(SIGN.format(n)) for n, sign in enumerate(signs)),
        ).where(self._schema.is_job(jobs), self._schema.key_in_batch(self._schema.key(jobs)))
        return found.cte(reserved_alias("found")).prefix_with("MATERIALIZED", dialect="postgresql")

    def _seen(self, found: RowMapping) -> JobSnapshot:
        def sign(name: str) -> Sign | None:
            return None if found[name] is None else Sign(float(found[name]), found["at"][name])

        heard = {alive.witness: sign(SIGN.format(n)) for n, alive in enumerate(self._witnesses)}
        ends = self._ends is not None and found["status"] in self._ends
        return JobSnapshot(
            identity=self._same(found),
            status=found["status"],
            running=bool(found["running"]),
            finished=ends or (None if found["finished"] is None else bool(found["finished"])),
            entry=self._ends is not None and not ends,
            finished_at=sign("finished_at"),
            signs={witness: seen for witness, seen in heard.items() if seen is not None},
        )


def _speaks_of_one(profile: Profile, alive: Witness) -> bool:
    """Whether a witness is to be heard after the end, and no action of ours puts words into its mouth."""
    mine = profile.jobs.table
    if alive.events:
        own = set(profile.jobs.key) <= set(alive.events.matching(profile.jobs.key).values())
        return own and not _may_lie_ahead(profile, alive.events.table, alive.events.at)
    return alive.column is not None and not _may_lie_ahead(profile, mine, [alive.column])


def _may_lie_ahead(profile: Profile, table: str, columns: Iterable[str]) -> bool:
    """An action writes a moment to one of these columns that may be later than the transition itself."""
    written: list[Value] = []
    for action in profile.actions.values():
        rows = [action.assign or {}] if table == profile.jobs.table else []
        rows += [step.values for step in action.also if isinstance(step, Insert) and step.table == table]
        rows += [step.assign for step in action.also if isinstance(step, Update) and step.table == table]
        written += [row[name] for row in rows for name in columns if name in row]
    return not all(_not_ahead(value) for value in written)


def _not_ahead(value: Value) -> bool:
    return isinstance(value, Variable) and (value.name == "null" or (value.name == "now" and value.plus is None))
