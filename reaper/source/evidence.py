"""The evidence of a verdict, read and put into a message by the database, in one way for every use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
)

from reaper.model import DISTANT_PAST, Evidence, Verdict
from reaper.profile import Profile
from reaper.source.action_choice import action_name, takes_first
from reaper.source.unmet_conditions import read_unmet, unmet_conditions
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.sql.types import document_of
from reaper.staleness.rule import START, Rule

KEY = "key_{}"
KEY_TEXT = "text_{}"
SIGN = "sign_{}"
FIRST = "takes_first"
_START_UNKNOWN, _SIGN_UNKNOWN = "start_unknown", "sign_{}_unknown"
WORKER_LOST = "worker_lost"


def evidence_cte(
    rule: Rule,
    jobs: FromClause,
    where: ColumnElement[bool],
    audit_fields: Mapping[str, Element] | None = None,
    verdict: Verdict | None = None,
    action: str = "fail",
    carried: Mapping[str, Element] = MappingProxyType({}),
    *,
    only_silent: bool = False,
    lost: bool = False,
) -> CTE:
    """One row for each job in `where`: its key, everything its verdict rests on as JSON, and a message.

    `audit_fields` go into the JSON. `verdict` is given where `where` has evaluated the rule already, or has with
    `only_silent`: of these jobs, those that are silent. Without either, a job may have ended: then the entry of a log
    that ended it is read too, and its newest sign in the future. Where `action` is a choice, the column FIRST says
    whether a job gets the first of its two actions, and the JSON names the one. `lost`: they are stale because their
    worker is gone, and that is what the evidence and the message say. The columns of the job's row that the profile
    needs later come along, as `ProfileTables.row_alias` names them, and so do `carried`: expressions on that row, by
    name.
    Each step is materialized, so that its expressions are computed once per job, and not once per mention.
    """
    shown_alone = verdict is None and audit_fields is None
    end = _shown_alone(rule, jobs) if shown_alone else {}
    if lost:
        end = {**end, WORKER_LOST: _why_lost(rule, jobs)}
    first = takes_first(rule.tables, jobs, action)
    chosen = [] if first is None else [first.label(FIRST)]
    parts = rule.parts_of_verdict(jobs) if verdict is None else rule.parts_of_silence(jobs) if only_silent else {}
    more = [*chosen, *(element.label(name) for name, element in {**end, **carried, **parts}.items())]
    # Of a job that the rule has found stale, nothing is unknown.
    may_be_unknown = verdict is not Verdict.STALE and rule.moments_may_be_unknown
    if may_be_unknown:
        more += [element.label(name) for name, element in _unknown_moments(rule, jobs).items()]
    job = _read(rule, jobs, where, more)
    durations = _add_durations(rule, job, verdict, only_silent=only_silent, may_be_unknown=may_be_unknown)
    fields = {**(audit_fields or {}), **{name: durations.c[name] for name in end}}
    if chosen:
        fields["action"] = action_name(rule.tables, durations.c[FIRST], action)
    return _materialized(_add_json_and_message(rule, durations, fields, carried, lost=lost), "judged")


def _shown_alone(rule: Rule, jobs: FromClause) -> dict[str, Element]:
    """What is read besides of a job that may have ended."""
    unmet = unmet_conditions(rule.tables, jobs)
    return {
        **rule.tables.end_entry(jobs),
        "future_sign": rule.newest_in_future(jobs),
        **({} if unmet is None else {_NOT_RUNNING: unmet}),
        **({"never": rule.never(jobs)} if rule.has_never else {}),
        **({} if rule.worker_states is None else {WORKER_LOST: _why_lost_alone(rule, jobs)}),
    }


def _why_lost(rule: Rule, jobs: FromClause) -> Element:
    assert rule.worker_states is not None
    return rule.worker_states.why_gone(jobs)


def _why_lost_alone(rule: Rule, jobs: FromClause) -> Element:
    """NULL for a job that is not stale, and for one that is so by its own silence: that is then the reason."""
    return case((rule.lost_alone(jobs), _why_lost(rule, jobs)), else_=sql.null_text())


def _read(rule: Rule, jobs: FromClause, where: ColumnElement[bool], more: Sequence[Element]) -> CTE:
    """What the tables hold: the row, its thresholds, and the newest sign of each witness."""
    tables = rule.tables
    columns = select(
        *(column.label(KEY.format(n)) for n, column in enumerate(tables.key(jobs))),
        *(text.label(KEY_TEXT.format(n)) for n, text in enumerate(tables.key_text(jobs))),
        *(tables.job_column(jobs, name).label(tables.row_alias(name)) for name in tables.row_columns),
        rule.kind(jobs).label("kind"),
        status_of(tables.profile, jobs).label("status"),
        rule.started(jobs).label("started"),
        rule.started_from(jobs).label("started_from"),
        sql.now().label("judged_at"),
        *(element.label(name) for name, element in rule.limits(jobs).items()),
        *(element.label(SIGN.format(n)) for n, element in enumerate(rule.newest_signs(jobs))),
        rule.why_unknown(jobs).label("unknown"),
        *([rule.worker(jobs).label("worker")] if rule.tables.profile.worker else []),
        *more,
    )
    gathered = columns.select_from(rule.from_jobs(jobs, in_words=True)).where(tables.is_job(jobs), where)
    return _materialized(gathered, "gathered")


def _unknown_moments(rule: Rule, jobs: FromClause) -> dict[str, ColumnElement[bool]]:
    """Whether the start of a job is unknown, and the signs of life of each witness."""
    signs = (rule.sign_is_unknown(witness, jobs) for witness in rule.tables.profile.alive)
    return {
        _START_UNKNOWN: rule.start_is_unknown(jobs),
        **{_SIGN_UNKNOWN.format(n): is_unknown for n, is_unknown in enumerate(signs)},
    }


def status_of(profile: Profile, jobs: FromClause) -> Element:
    """The job's status as text, where a single column holds it; else NULL."""
    jobs_profile = profile.jobs
    log, running = jobs_profile.log, jobs_profile.running
    name = jobs_profile.status or (log.type if log else None) or (running and running.column)
    return sql.text_of(jobs.c[name]) if name else sql.null_text()


def _add_durations(rule: Rule, job: CTE, verdict: Verdict | None, *, only_silent: bool, may_be_unknown: bool) -> CTE:
    """The verdict, the newest sign of each witness, the last of them, and how long ago it and the start were; NULL for
    what is unknown: what is read there is not what has happened.
    """
    signs: dict[str, Element] = {
        witness.witness: job.c[SIGN.format(n)] for n, witness in enumerate(rule.tables.profile.alive)
    }
    started: Element = job.c.started
    last_read = sql.newest(started, *signs.values())
    unknown_signs = list[ColumnElement[bool]]()
    if may_be_unknown:
        started = case((job.c[_START_UNKNOWN], sql.null_instant()), else_=started)
        unknown_signs = [job.c[_SIGN_UNKNOWN.format(n)] for n in range(len(signs))]
        signs = {
            name: case((is_unknown, sql.null_instant()), else_=sign)
            for (name, sign), is_unknown in zip(signs.items(), unknown_signs, strict=True)
        }
    last_sign = sql.newest(started, *signs.values())
    is_last = [(sign == last_sign, literal(witness, String)) for witness, sign in signs.items()]
    witness: Element = case(*is_last, else_=literal(START, String)) if is_last else literal(START, String)
    if may_be_unknown:
        # A sign that is known, and recent, tells more than that another one is unknown.
        no_recent_one = func.coalesce(last_sign < job.c.audible_since, True)
        is_unknown = or_(
            and_(job.c[_START_UNKNOWN], last_sign.is_(None)), and_(or_(false(), *unknown_signs), no_recent_one)
        )
        last_sign = case((is_unknown, sql.null_instant()), else_=last_sign)
        witness = case((is_unknown, sql.null_text()), else_=witness)
    columns = select(
        *(column for column in job.c if not column.name.startswith("sign_")),
        *(sign.label(SIGN.format(n)) for n, sign in enumerate(signs.values())),
        (literal(verdict.value, String) if verdict else rule.verdict(job, last_read)).label("verdict"),
        last_sign.label("last_sign"),
        witness.label("witness"),
        sql.seconds_between(job.c.judged_at, started).label("age"),
        sql.seconds_between(job.c.judged_at, last_sign).label("silence"),
    )
    return _materialized(columns.where(rule.is_silent(job, last_read)) if only_silent else columns, "measured")


def _add_json_and_message(
    rule: Rule, job: CTE, audit_fields: Mapping[str, Element], carried: Collection[str], *, lost: bool
) -> Select[Any]:
    """The evidence as JSON, and the message."""
    distant_past = sql.instant(DISTANT_PAST)
    evidence: dict[str, Element] = {
        **{name: job.c[name] for name in _COPIED},
        **({"unknown": job.c.unknown} if rule.may_be_unknown else {}),
        **({"worker": job.c.worker} if rule.tables.profile.worker else {}),
        **({"start_lost": literal(True)} if rule.tables.start_lost else {}),
        "age_seconds": job.c.age,
        "silence_seconds": job.c.silence,
        "audible_since": func.nullif(job.c.audible_since, distant_past, type_=sql.INSTANT),
        "deaf_until": func.nullif(job.c.floor, distant_past, type_=sql.INSTANT),
        "signs": sql.json_object(
            {witness.witness: job.c[SIGN.format(n)] for n, witness in enumerate(rule.tables.profile.alive)}
        ),
        **audit_fields,
    }
    return select(
        *(column for column in job.c if column.name.startswith(("key_", "text_", "row_")) or column.name == FIRST),
        *(job.c[name] for name in carried),
        *(
            job.c[name]
            for name in ("kind", "status", "verdict", "witness", "age", "silence", "started", "last_sign", "unknown")
        ),
        *(job.c[name] for name in ("floor", "estimate", "timeout_seconds")),
        sql.json_object(evidence).label("evidence"),
        (_message_of_lost(job) if lost else _message(rule, job)).label("message"),
    )


_COPIED = (
    "started",
    "started_from",
    "last_sign",
    "witness",
    "timeout_seconds",
    "timeout_from",
    "stall_seconds",
    "stall_from",
    "judged_at",
)


def _message(rule: Rule, job: CTE) -> Element:
    """The message, which also says of a sign in the future that it counts from when it was first seen."""
    keys = [job.c[KEY_TEXT.format(n)] for n in range(len(rule.tables.profile.jobs.key))]
    ahead = rule.remembered_in_future(keys)
    counts = sql.concat(" A sign of life in the future (", ahead, ") counts from when it was first seen.")
    silent = sql.concat(
        "No sign of life for ",
        sql.duration_text(job.c.silence),
        " (stall window ",
        job.c.stall_words,
        ") after running for ",
        sql.duration_text(job.c.age),
        " (timeout ",
        job.c.timeout_words,
        "); last sign of life at ",
        sql.utc_text(job.c.last_sign),
        " from ",
        job.c.witness,
        ".",
    )
    unknown = sql.concat("Whether it was alive is unknown: ", job.c.unknown, ".")
    return sql.concat(
        case((and_(job.c.last_sign.is_(None), job.c.unknown.is_not(None)), unknown), else_=silent),
        *_worker(rule, job),
        case((ahead.is_not(None), counts), else_=sql.null_text()),
    )


def _message_of_lost(job: CTE) -> Element:
    """The message on a job whose worker is gone."""
    return sql.concat(
        "Its worker ",
        job.c.worker,
        " is gone: ",
        job.c[WORKER_LOST],
        "; the job had been running for ",
        sql.duration_text(job.c.age),
        ".",
    )


def _worker(rule: Rule, job: CTE) -> list[Element]:
    """Which worker held the job, where the profile says how to find it."""
    if rule.tables.profile.worker is None:
        return []
    named = sql.concat(" Its worker was ", job.c.worker, ".")
    return [case((job.c.worker.is_not(None), named), else_=literal(" No worker held it.", String))]


def stale_in(job: CTE) -> Element:
    """Seconds until a job of `evidence_cte` becomes stale if it stays silent; NULL when it never will, or that is
    unknown.
    """
    until_silent = sql.seconds_between(sql.newest(job.c.last_sign, job.c.floor), job.c.estimate)
    seconds = cast(sql.largest_number(job.c.timeout_seconds - job.c.age, until_silent), sql.FLOAT)
    return case((and_(job.c.age.is_not(None), job.c.last_sign < sql.infinity()), seconds), else_=null())


def evidence_query(rule: Rule, action: str) -> Select[Any]:
    """The columns that `read_evidence` reads. None is a moment, which Python's dates might not be able to hold.

    `action` is what a sweep does with a stale job.
    """
    rule, jobs = rule.of_batch(), rule.tables.jobs
    job = evidence_cte(rule, jobs, rule.tables.key_in_batch(jobs), action=action)
    return select(
        *(job.c[KEY_TEXT.format(n)] for n in range(len(rule.tables.profile.jobs.key))),
        *(sql.shortened(job.c[name]).label(name) for name in ("kind", "status")),
        *(job.c[name] for name in ("verdict", "evidence")),
        stale_in(job).label("stale_in"),
    )


def _materialized(query: Select[Any], name: str) -> CTE:
    return query.cte(reserved_alias(name)).prefix_with("MATERIALIZED", dialect="postgresql")


_NOT_RUNNING = "not_running"
_NOT_FROM_JSON = {"key", "kind", "status", "verdict", "stale_in_seconds", "start_lost", _NOT_RUNNING}
_FROM_JSON = {f.name for f in fields(Evidence)} - _NOT_FROM_JSON


def read_evidence(row: Row[Any], width: int) -> Evidence:
    """A row of `evidence_query` as a value."""
    columns = row._mapping
    document = document_of(columns["evidence"])
    return Evidence(
        key=tuple(columns[KEY_TEXT.format(n)] for n in range(width)),
        kind=columns["kind"],
        status=columns["status"],
        verdict=Verdict(columns["verdict"]),
        stale_in_seconds=columns["stale_in"] if columns["verdict"] in (Verdict.YOUNG, Verdict.SPARED) else None,
        start_lost=bool(document.get("start_lost")),
        not_running=read_unmet(document.get(_NOT_RUNNING)) if columns["verdict"] == Verdict.ENDED else (),
        **{name: document.get(name) for name in _FROM_JSON},
    )
