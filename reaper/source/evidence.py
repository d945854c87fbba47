"""The evidence of a verdict, gathered and put into words by the database, in one way for every use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, Row, String, case, cast, func, literal, null, select

from reaper import sql
from reaper.hearing import LONG_AGO
from reaper.model import Evidence, Verdict
from reaper.rule import START, Moment, Rule
from reaper.sql import Element

KEY = "key_{}"
ROW = "row_{}"


def judged(
    rule: Rule,
    jobs: FromClause,
    moment: Moment,
    where: ColumnElement[bool],
    more: Mapping[str, Element] | None = None,
    verdict: Verdict | None = None,
) -> CTE:
    """One row for each job in `where`: its key, everything its verdict rests on, that as JSON, and in words.

    `more` goes into the JSON as it is; `verdict` is given where `where` has asked the rule already. Columns of the row
    come along as `row_<name>`. The parts are materialized: newest signs are looked up once per job, not per mention.
    """
    known = literal(verdict.value, String) if verdict else rule.verdict(jobs, moment)
    return _concluded(rule, _gathered(rule, jobs, moment, where, known), more or {})


def _gathered(rule: Rule, jobs: FromClause, moment: Moment, where: ColumnElement[bool], verdict: Element) -> CTE:
    profile = rule.schema.profile
    status = jobs.c[profile.jobs.status or profile.jobs.running.column]
    limits = [element.label(name) for name, element in rule.limits(jobs, moment).items()]
    signs = [element.label(f"sign_{n}") for n, element in enumerate(rule.newest_signs(jobs))]
    return (
        select(
            *(column.label(KEY.format(n)) for n, column in enumerate(rule.schema.key(jobs))),
            *(jobs.c[name].label(ROW.format(name)) for name in sorted(profile.row_columns())),
            rule.kind(jobs).label("kind"),
            sql.text_of(status).label("status"),
            rule.started(jobs).label("started"),
            rule.started_from(jobs).label("started_from"),
            verdict.label("verdict"),
            sql.now().label("judged_at"),
            *limits,
            *signs,
        )
        .where(where)
        .cte("gathered")
        .prefix_with("MATERIALIZED")
    )


def _concluded(rule: Rule, job: CTE, more: Mapping[str, Element]) -> CTE:
    names = [alive.witness for alive in rule.schema.profile.alive]
    signs = {name: job.c[f"sign_{n}"] for n, name in enumerate(names)}
    last_sign = sql.newest(job.c.started, *signs.values())
    seen = [(sign == last_sign, literal(name, String)) for name, sign in signs.items()]
    witness = case(*seen, else_=literal(START, String)) if seen else literal(START, String)
    age, silence = sql.seconds(job.c.judged_at, job.c.started), sql.seconds(job.c.judged_at, last_sign)
    bounded = job.c.audible_since != sql.instant(LONG_AGO)
    deaf_until = case((job.c.floor == sql.instant(LONG_AGO), null()), else_=job.c.floor)
    wait = sql.seconds(sql.newest(last_sign, job.c.floor), job.c.estimate)
    evidence = {
        "started": job.c.started,
        "started_from": job.c.started_from,
        "last_sign": last_sign,
        "witness": witness,
        "age_seconds": age,
        "silence_seconds": silence,
        **{name: job.c[name] for name in ("timeout_seconds", "timeout_from", "stall_seconds", "stall_from")},
        "audible_since": case((bounded, job.c.audible_since), else_=null()),
        "deaf_until": deaf_until,
        "judged_at": job.c.judged_at,
        "signs": sql.json_object(signs),
    }
    return (
        select(
            *(column for column in job.c if column.name.startswith(("key_", "row_"))),
            job.c.kind,
            job.c.status,
            job.c.verdict,
            witness.label("witness"),
            cast(age, sql.FLOAT).label("age"),
            cast(silence, sql.FLOAT).label("silence"),
            cast(func.greatest(job.c.timeout_seconds - age, wait, 0.0), sql.FLOAT).label("stale_in"),
            sql.json_object({**evidence, **more}).label("evidence"),
            _in_words(job, age, silence, last_sign, witness).label("message"),
        )
        .cte("judged")
        .prefix_with("MATERIALIZED")
    )


def _in_words(job: CTE, age: Element, silence: Element, last_sign: Element, witness: Element) -> Element:
    return sql.concat(
        "No sign of life for ",
        sql.in_words(silence),
        " (stall window ",
        sql.in_words(job.c.stall_seconds),
        ") after running for ",
        sql.in_words(age),
        " (timeout ",
        sql.in_words(job.c.timeout_seconds),
        "); last sign of life at ",
        sql.in_utc(last_sign),
        " from ",
        witness,
        ".",
    )


_FROM_JSON = {f.name for f in fields(Evidence)} - {"key", "kind", "status", "verdict", "stale_in_seconds"}


def read_evidence(row: Row[Any], width: int) -> Evidence:
    """A row of `judged` as a value."""
    found = row._mapping
    return Evidence(
        key=tuple(found[KEY.format(n)] for n in range(width)),
        kind=found["kind"],
        status=found["status"],
        verdict=Verdict(found["verdict"]),
        stale_in_seconds=found["stale_in"] if found["verdict"] in (Verdict.YOUNG, Verdict.SPARED) else None,
        **{name: found["evidence"].get(name) for name in _FROM_JSON},
    )
