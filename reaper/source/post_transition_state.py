"""What becomes of jobs after they were ended: the state that a transition left, and the state of the job now.

A sign of life after a transition means that a live job was ended, or that a worker was not stopped. Only witnesses of
this one job count: rows that match its whole key, and columns of its own row. Not children, whose own ends would count
for their parent; not workers, which live on without the job; not deadlines, which say until when a job may be silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CTE, Connection, Label, RowMapping, Select, func, select

from reaper.model import Key, PostTransitionState
from reaper.profile import Action, Insert, Profile, Update, Value, Variable, Witness
from reaper.profile.column_usage import columns_set_to_now
from reaper.profile.values import is_moment_of_transition, is_variable
from reaper.source.evidence import KEY_TEXT, SIGN, status_of
from reaper.source.statements import SourceStatements
from reaper.source.survey import version_columns
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.sql.types import document_of
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

MAX_FOLLOWED = 5_000
"""For how many of the jobs that one sweep ends the state after the transition is read."""

_RUN_IDENTITY = "same_{}"
_MOMENT = "moment_{}"


class Sign(NamedTuple):
    """A moment on the database's clock: in seconds since 1970, for comparing, and as the database writes it."""

    epoch: float
    at: str


class JobSnapshot(NamedTuple):
    """A job now. `identity` is that of its current run. `finished` is None where the profile cannot tell.

    `entry`: the status is only the type of the newest entry of its log, which does not end the job. `signs` has the
    newest sign of each witness that has any, by the witness's name.
    """

    identity: tuple[Any, ...]
    status: str | None
    running: bool
    finished: bool | None
    entry: bool
    finished_at: Sign | None
    signs: Mapping[str, Sign]


class PostTransition:
    """What one source reads of jobs that it has ended."""

    def __init__(self, statements: SourceStatements) -> None:
        self._statements, self._profile = statements, statements.profile
        self._width = len(self._profile.jobs.key)
        self._witnesses = followed_witnesses(self._profile)
        log = self._profile.jobs.log
        self._end_types = {str(entry_type) for entry_type in log.ended} if log else None
        self._moment_columns = columns_set_to_now(self._profile)

    def states_after(
        self, connection: Connection, ended: Mapping[Key, Action]
    ) -> tuple[str, dict[Key, PostTransitionState]]:
        """The moment after these actions ended their jobs, as the database writes it, and the state of each job then.

        In the transaction of the transition. Jobs whose row is gone, or already on its next run, are left out.
        """
        now = self._statements.execute(connection, {}, clock_query).one()
        epoch, width = float(now.epoch), self._width
        keys = [key for key, action in ended.items() if leaves_row(self._profile, action)]
        rows = self._statements.execute(connection, key_parameters(keys), state_query).all() if keys else []
        requeue = self._profile.actions.get("requeue")
        states, columns = {}, self._moment_columns
        identity_width = len(rows[0]) - width - 1 - len(columns) if rows else 0
        for row in rows:
            key = row[:width]
            identity, status = row[width : width + identity_width], row[width + identity_width]
            written = zip(columns, row[width + identity_width + 1 :], strict=True)
            moments = {column: value for column, value in written if value is not None}
            states[key] = PostTransitionState(epoch, identity, status, ended[key] is requeue, moments)
        return document_of(now.at)["at"], states

    def snapshots(
        self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]
    ) -> dict[Key, JobSnapshot]:
        """The state now of those of the jobs that still exist. Changes nothing. Raises DBAPIError."""
        values = self._statements.values(context) | key_parameters(keys)
        rows = self._statements.execute(connection, values, snapshot_query)
        return {tuple(row[: self._width]): self._snapshot(row._mapping) for row in rows}

    def _snapshot(self, columns: RowMapping) -> JobSnapshot:
        moments = document_of(columns["at"])

        def sign(name: str) -> Sign | None:
            return None if columns[name] is None else Sign(float(columns[name]), moments[name])

        signs = {witness.witness: sign(SIGN.format(n)) for n, witness in enumerate(self._witnesses)}
        has_ended = self._end_types is not None and columns["status"] in self._end_types
        return JobSnapshot(
            identity=tuple(columns[name] for name in columns if name.startswith(_RUN_IDENTITY.format(""))),
            status=columns["status"],
            running=bool(columns["running"]),
            finished=has_ended or (None if columns["finished"] is None else bool(columns["finished"])),
            entry=self._end_types is not None and not has_ended,
            finished_at=sign("finished_at"),
            signs={witness: newest for witness, newest in signs.items() if newest is not None},
        )


def leaves_row(profile: Profile, action: Action) -> bool:
    """The row stays, and keeps its start or loses it: it is not on its next run already."""
    new_starts = [value for name, value in (action.assign or {}).items() if name in profile.jobs.started]
    return not action.delete and all(isinstance(value, Variable) and value.name == "null" for value in new_starts)


# --- statements --------------------------------------------------------------------------------------------------


def clock_query(_: Rule) -> Select[Any]:
    """The moment now: in seconds since 1970, and as the database writes it."""
    now = sql.now()
    return select(sql.epoch(now).label("epoch"), sql.json_object({"at": now}).label("at"))


def state_query(rule: Rule) -> Select[Any]:
    """The jobs of a batch: their keys, the identity of their runs, their status, and the moments that were written."""
    tables, jobs = rule.tables, rule.tables.jobs
    written = enumerate(columns_set_to_now(tables.profile))
    moments = [sql.text_of(jobs.c[column]).label(_MOMENT.format(n)) for n, column in written]
    columns = select(*tables.key_text(jobs), *_run_identity(rule), _status(rule).label("status"), *moments)
    return columns.where(tables.is_job(jobs), tables.key_in_batch(jobs))


def snapshot_query(rule: Rule) -> Select[Any]:
    """The jobs of a batch, with what `JobSnapshot` needs."""
    job, profile = _job_cte(rule), rule.tables.profile
    signs = {name: job.c[name] for name in (SIGN.format(n) for n in range(len(followed_witnesses(profile))))}
    signs["finished_at"] = job.c.finished_at
    identity = [element.name for element in _run_identity(rule)]
    return select(
        *(job.c[KEY_TEXT.format(n)] for n in range(len(profile.jobs.key))),
        *(job.c[name] for name in (*identity, "status", "running", "finished")),
        *(sql.epoch(sign).label(name) for name, sign in signs.items()),
        sql.json_object(signs).label("at"),
    )


def _job_cte(rule: Rule) -> CTE:
    tables, jobs, profile = rule.tables, rule.tables.jobs, rule.tables.profile
    purge, table = profile.purge, profile.jobs.table
    finished = func.coalesce(tables.conditions_hold(purge.where, jobs, table), False) if purge else sql.null_text()
    ends = [tables.instant(table, jobs, name) for name in purge.at] if purge else []
    signs = rule.newest_signs_until_now(jobs, followed_witnesses(profile))
    job = select(
        *(text.label(KEY_TEXT.format(n)) for n, text in enumerate(tables.key_text(jobs))),
        *_run_identity(rule),
        _status(rule).label("status"),
        func.coalesce(tables.running(jobs), False).label("running"),
        finished.label("finished"),
        (func.coalesce(*ends, type_=sql.INSTANT) if ends else sql.null_instant()).label("finished_at"),
        *(sign.label(SIGN.format(n)) for n, sign in enumerate(signs)),
    ).where(tables.is_job(jobs), tables.key_in_batch(jobs))
    return job.cte(reserved_alias("found")).prefix_with("MATERIALIZED", dialect="postgresql")


def _run_identity(rule: Rule) -> list[Label[Any]]:
    """What changes when the job is started again: its version, and its attempts."""
    columns, attempts = version_columns(rule, rule.tables.jobs), rule.tables.profile.attempts
    if attempts:
        columns.append(sql.text_of(rule.tables.job_column(rule.tables.jobs, attempts.counter)))
    return [element.label(_RUN_IDENTITY.format(n)) for n, element in enumerate(columns)]


def _status(rule: Rule) -> Element:
    """The job's status; in a log, the type of its newest entry."""
    tables, jobs, profile = rule.tables, rule.tables.jobs, rule.tables.profile
    log = profile.jobs.log
    if log is None:
        return sql.shortened(status_of(profile, jobs))
    entry = tables.table(profile.jobs.table).alias(reserved_alias("entry"))
    same_job = ProfileTables.keys_equal(tables.key(entry), tables.key(jobs))
    newest = (
        select(sql.shortened(sql.text_of(entry.c[log.type])))
        .where(same_job)
        .order_by(entry.c[log.order].desc())
        .limit(1)
    )
    return newest.correlate(jobs).scalar_subquery()


# --- witnesses ---------------------------------------------------------------------------------------------------


def followed_witnesses(profile: Profile) -> list[Witness]:
    """The witnesses whose signs count after the end."""
    return [witness for witness in profile.alive if _is_of_one_job(profile, witness)]


def _is_of_one_job(profile: Profile, witness: Witness) -> bool:
    """Whether the witness counts after the end: it is of this one job, and no action writes a later moment to it."""
    if witness.events:
        whole_key = set(profile.jobs.key) <= set(witness.events.matching(profile.jobs.key).values())
        return whole_key and not _writes_later_moment(profile, witness.events.table, witness.events.at)
    return witness.column is not None and not _writes_later_moment(profile, profile.jobs.table, [witness.column])


def _writes_later_moment(profile: Profile, table: str, columns: Iterable[str]) -> bool:
    """An action writes a moment to one of these columns that may be later than the transition itself."""
    written: list[Value] = []
    for action in profile.actions.values():
        rows = [action.assign or {}] if table == profile.jobs.table else []
        rows += [step.values for step in action.also if isinstance(step, Insert) and step.table == table]
        rows += [step.assign for step in action.also if isinstance(step, Update) and step.table == table]
        written += [row[name] for row in rows for name in columns if name in row]
    return not all(_is_now_or_null(value) for value in written)


def _is_now_or_null(value: Value) -> bool:
    return is_variable(value, "null") or is_moment_of_transition(value)
