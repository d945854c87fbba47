"""The evidence of a verdict, gathered and put into words by the database, in one way for every use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
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
    func,
    literal,
    null,
    select,
)

from reaper.model import DISTANT_PAST, Evidence, Verdict
from reaper.profile import Profile
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import START, Rule

KEY = "key_{}"
KEY_TEXT = "text_{}"
SIGN = "sign_{}"


def row_alias(profile: Profile, column: str) -> str:
    """What a column of the row is called in `judged`: by number, since a long name with a prefix would be cut off."""
    return f"row_{sorted(profile.row_columns()).index(column)}"


def evidence_cte(
    rule: Rule,
    jobs: FromClause,
    context: EvaluationContext,
    where: ColumnElement[bool],
    more: Mapping[str, Element] | None = None,
    verdict: Verdict | None = None,
) -> CTE:
    """One row for each job in `where`: its key, everything its verdict rests on as JSON, and that in words.

    `more` goes into the JSON as it is; `verdict` is given where `where` has asked the rule already. Columns of the row
    come along as `copied` calls them. Each step is materialized: what it finds is worked out once per job, not per
    mention.
    """
    known = literal(verdict.value, String) if verdict else rule.verdict(jobs, context)
    measured = _measured(rule, _gathered(rule, jobs, context, where, known))
    return _materialized(_concluded(rule, measured, more or {}), "judged")


def _gathered(
    rule: Rule, jobs: FromClause, context: EvaluationContext, where: ColumnElement[bool], verdict: Element
) -> CTE:
    """What stands in the database: the row, its thresholds and the newest sign of each witness."""
    profile = rule.tables.profile
    found = select(
        *(column.label(KEY.format(n)) for n, column in enumerate(rule.tables.key(jobs))),
        *(text.label(KEY_TEXT.format(n)) for n, text in enumerate(rule.tables.key_text(jobs))),
        *(jobs.c[name].label(row_alias(profile, name)) for name in sorted(profile.row_columns())),
        rule.kind(jobs).label("kind"),
        status_of(profile, jobs).label("status"),
        rule.tables.started(jobs).label("started"),
        rule.started_from(jobs).label("started_from"),
        verdict.label("verdict"),
        sql.now().label("judged_at"),
        *(element.label(name) for name, element in rule.limits(jobs, context).items()),
        *(element.label(SIGN.format(n)) for n, element in enumerate(rule.newest_signs(jobs, context))),
        rule.why_unknown(jobs, context).label("unknown"),
    )
    return _materialized(found.where(rule.tables.is_job(jobs), where), "gathered")


def status_of(profile: Profile, jobs: FromClause) -> Element:
    """What the row says of itself, where it says it in one word."""
    mapped = profile.jobs
    name = mapped.status or (mapped.log.type if mapped.log else None) or (mapped.running and mapped.running.column)
    return sql.text_of(jobs.c[name]) if name else sql.null_text()


def _measured(rule: Rule, job: CTE) -> CTE:
    """The last sign of life, who saw it, and how long ago things were."""
    signs = {alive.witness: job.c[SIGN.format(n)] for n, alive in enumerate(rule.tables.profile.alive)}
    last_sign = sql.newest(job.c.started, *signs.values())
    seen = [(sign == last_sign, literal(witness, String)) for witness, sign in signs.items()]
    found = select(
        job,
        last_sign.label("last_sign"),
        (case(*seen, else_=literal(START, String)) if seen else literal(START, String)).label("witness"),
        sql.seconds_between(job.c.judged_at, job.c.started).label("age"),
        sql.seconds_between(job.c.judged_at, last_sign).label("silence"),
    )
    return _materialized(found, "measured")


def _concluded(rule: Rule, job: CTE, more: Mapping[str, Element]) -> Select[Any]:
    """The evidence as JSON, and the message."""
    never = sql.instant(DISTANT_PAST)
    evidence: dict[str, Element] = {
        **{name: job.c[name] for name in _AS_FOUND},
        **({"unknown": job.c.unknown} if rule.tables.profile.task else {}),
        "age_seconds": job.c.age,
        "silence_seconds": job.c.silence,
        "audible_since": func.nullif(job.c.audible_since, never, type_=sql.INSTANT),
        "deaf_until": func.nullif(job.c.floor, never, type_=sql.INSTANT),
        "signs": sql.json_object(
            {alive.witness: job.c[SIGN.format(n)] for n, alive in enumerate(rule.tables.profile.alive)}
        ),
        **more,
    }
    return select(
        *(column for column in job.c if column.name.startswith(("key_", "text_", "row_"))),
        *(
            job.c[name]
            for name in ("kind", "status", "verdict", "witness", "age", "silence", "started", "last_sign", "unknown")
        ),
        *(job.c[name] for name in ("floor", "estimate", "timeout_seconds")),
        sql.json_object(evidence).label("evidence"),
        _in_words(job).label("message"),
    )


_AS_FOUND = (
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


def _in_words(job: CTE) -> Element:
    return sql.concat(
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


def stale_in(job: CTE) -> Element:
    """Seconds until a job of `judged` becomes stale if it stays silent; NULL when it never will."""
    silent = sql.seconds_between(sql.newest(job.c.last_sign, job.c.floor), job.c.estimate)
    left = cast(sql.largest_number(job.c.timeout_seconds - job.c.age, silent), sql.FLOAT)
    return case((and_(job.c.started.is_not(None), job.c.last_sign < sql.infinity()), left), else_=null())


def evidence_select(job: CTE, width: int) -> Select[Any]:
    """What `read_evidence` reads, and nothing that the driver would have to turn into a date of Python's."""
    return select(
        *(job.c[KEY_TEXT.format(n)] for n in range(width)),
        *(job.c[name] for name in ("kind", "status", "verdict", "evidence")),
        stale_in(job).label("stale_in"),
    )


def _materialized(found: Select[Any], name: str) -> CTE:
    return found.cte(reserved_alias(name)).prefix_with("MATERIALIZED", dialect="postgresql")


_FROM_JSON = {f.name for f in fields(Evidence)} - {"key", "kind", "status", "verdict", "stale_in_seconds"}


def read_evidence(row: Row[Any], width: int) -> Evidence:
    """A row of `shown` as a value."""
    found = row._mapping
    return Evidence(
        key=tuple(found[KEY_TEXT.format(n)] for n in range(width)),
        kind=found["kind"],
        status=found["status"],
        verdict=Verdict(found["verdict"]),
        stale_in_seconds=found["stale_in"] if found["verdict"] in (Verdict.YOUNG, Verdict.SPARED) else None,
        **{name: found["evidence"].get(name) for name in _FROM_JSON},
    )
