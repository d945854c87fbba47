"""The statements of one source, in the order of a sweep, written out for a database administrator.

No database is asked: moments that a sweep takes from the database's clock are spelled as their distance from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ClauseElement, ColumnElement, Dialect, Select, Text, cast, column, select, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.duration import in_words
from reaper.hearing import Contact, Hearing
from reaper.rule import Moment, Rule
from reaper.source.claim import Claim
from reaper.source.evidence import judged, shown
from reaper.source.lease import ttl_for
from reaper.source.postgresql import BEGIN, IDLE_MS, LOCK_MS, LOOK
from reaper.source.postgresql.holders import MEMBERS, SUSPECTS, WHO
from reaper.source.postgresql.lease import take
from reaper.source.stamp import Stamp
from reaper.source.survey import Survey

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_WIDTH = 120
_WORDS = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""")
_DIALECT: Dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Habits:
    """What a daemon's statements owe to its settings: its interval and patience in seconds, and how many it names."""

    interval: float
    statement_timeout: float
    named: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, what it is for, which locks it takes, and the meaning of its parameters."""

    name: str
    purpose: str
    locks: str
    sql: str
    parameters: Mapping[str, str]


def script(rule: Rule, habits: Habits) -> Iterator[Statement]:
    """Every statement of a sweep that is not its source's first, apart from COMMIT, ROLLBACK and savepoints."""
    profile = rule.schema.profile
    reads = f"ACCESS SHARE on {', '.join(sorted(profile.tables))}: in the way of DROP, TRUNCATE and ALTER TABLE only"
    yield from _opening(rule, habits)
    yield from _surveying(rule, habits, reads)
    yield from _ending(rule, reads)
    yield from _naming(rule, reads)


def _opening(rule: Rule, habits: Habits) -> Iterator[Statement]:
    limits = {"statement": round(habits.statement_timeout * 1000), "lock": LOCK_MS, "idle": IDLE_MS}
    yield _written("read_only", "Opens every transaction that only reads.", "none", text("SET TRANSACTION READ ONLY"))
    yield _written(
        "begin",
        "Opens every transaction, after that: UTC, and limits in milliseconds for this transaction alone.",
        "none",
        BEGIN,
        {name: repr(f"{limit}") for name, limit in limits.items()},
    )
    yield _written("contact", "Asks for the clock that judges, and whether anything can be written.", "none", LOOK)
    yield _written(
        "lease",
        "Lets one of several daemons sweep: who has not renewed it for three intervals (30 s at least) loses it.",
        "one advisory lock",
        take(rule.schema, _DIALECT, ttl_for(habits.interval)),
    )


def _surveying(rule: Rule, habits: Habits, reads: str) -> Iterator[Statement]:
    survey, moment, before = Survey(rule), _moment(rule), _moment(rule, habits.interval)
    yield _written(
        "census",
        "Counts the running jobs, and those that have passed their timeout since the last sweep.",
        reads,
        survey.counting(moment, before),
    )
    yield _written("survey", "Finds the stale jobs, once per sweep.", reads, survey.candidates(moment))
    yield _written(
        "crossed",
        "Finds who has passed their timeout since the last sweep and lives.",
        reads,
        survey.crossed(moment, before, habits.named + 1, 0),
    )
    yield _written(
        "evidence",
        "Tells what the verdict on these jobs rests on: those that live, and those whose row is held.",
        reads,
        shown(judged(rule, rule.schema.jobs, moment, _keyed(rule)), len(rule.schema.profile.jobs.key)),
    )


def _ending(rule: Rule, reads: str) -> Iterator[Statement]:
    claim = Claim(rule, _moment(rule), Stamp(source="(source)", sweep_id="(sweep)", host="(host)"))
    profile, jobs = rule.schema.profile, rule.schema.profile.jobs.table
    written = ", ".join(also.table for also in profile.actions["fail"].also)
    yield _written(
        "lock",
        "Begins a batch. Whoever holds a row is alive, and is not waited for.",
        f"ROW SHARE on {jobs}; FOR UPDATE on the rows of the batch, until its commit",
        claim.lock,
    )
    yield _written(
        "end",
        "Judges the locked once more; makes the transition of what is still stale, and writes its audit event.",
        f"ROW EXCLUSIVE on {jobs}{f', {written}' if written else ''}; the rows are those that have just been locked",
        claim.ending.statements["end"],
    )
    yield _written("skipped", "Tells held jobs from those that have ended.", reads, claim.still_running)


def _naming(rule: Rule, reads: str) -> Iterator[Statement]:
    """Who holds the rows of silent jobs."""
    names = {"numbers": "transactions, an array", "number": "the transaction, or several, that the row names"}
    yield _written("row", "Asks the row of a silent job who holds it.", reads, _row(rule))
    yield _written("holder", "Names the one of these transactions that is the oldest.", "none", WHO, names)
    yield _written(
        "members", "Takes a number apart that stands for several; refused where it does not.", "none", MEMBERS, names
    )
    table = _DIALECT.identifier_preparer.format_table(rule.schema.jobs)
    yield _written(
        "suspects",
        "When none of them is found: who works on the table, and is old enough to be the holder.",
        "none",
        SUSPECTS,
        {**names, "table": repr(table)},
    )


def _keyed(rule: Rule) -> ColumnElement[bool]:
    return rule.schema.keyed(rule.schema.key(rule.schema.jobs))


def _row(rule: Rule) -> Select[Any]:
    return select(cast(column("xmax"), Text)).select_from(rule.schema.jobs).where(_keyed(rule))


def _moment(rule: Rule, seconds_ago: float = 0) -> Moment:
    now, hearing = _NOW - timedelta(seconds=seconds_ago), Hearing(0)
    hearing.met(Contact(now=now, server_started=now))
    return Moment.of(hearing, rule.thresholds)


def _written(
    name: str, purpose: str, locks: str, statement: ClauseElement, known: Mapping[str, str] | None = None
) -> Statement:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    parameters = {found: (known or {}).get(found) or _meaning(value) for found, value in compiled.params.items()}
    return Statement(name, purpose, locks, _folded(compiled.string), parameters)


def _folded(text: str) -> str:
    """Long lines in several, without a break inside quotes."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        lines.append("")
        for word in _WORDS.findall(line):
            if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
                lines.append("   ")
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def _meaning(value: object) -> str:
    if value is None:
        return "the keys of a batch, an array"
    if isinstance(value, datetime):
        return f"the database's now - {in_words((_NOW - value).total_seconds())}"
    return repr(value)
