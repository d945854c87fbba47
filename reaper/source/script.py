"""The statements of one source, in the order of a sweep, written out for a database administrator.

No database is asked: moments that a sweep takes from the database's clock are spelled as their distance from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.duration import in_words
from reaper.hearing import Contact, Hearing
from reaper.rule import Moment, Rule
from reaper.source.claim import Claim, Stamp
from reaper.source.holders import _WHO
from reaper.source.lease import take, ttl_for
from reaper.source.session import _BEGIN, _LOOK
from reaper.source.survey import Survey

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_LIMIT = 101
_WIDTH = 120
_WORDS = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""")
_DIALECT: Dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, what it is for, which locks it takes, and the meaning of its parameters."""

    name: str
    purpose: str
    locks: str
    sql: str
    parameters: Mapping[str, str]


def script(rule: Rule) -> Iterator[Statement]:
    """Every statement of a sweep."""
    profile, moment, survey = rule.schema.profile, _moment(rule), Survey(rule)
    claim = Claim(rule, moment, Stamp(source="(source)", sweep_id="(sweep)", host="(host)"))
    jobs = profile.jobs.table
    reads = f"ACCESS SHARE on {', '.join(sorted(profile.tables))}: in the way of DROP, TRUNCATE and ALTER TABLE only"
    limits = dict.fromkeys(("statement", "lock", "idle"), "milliseconds")
    yield _written(
        "begin", "Opens every transaction: UTC, and limits for this transaction alone.", "none", _BEGIN, limits
    )
    yield _written("contact", "Asks for the clock that judges, and whether anything can be written.", "none", _LOOK)
    yield _written(
        "lease",
        "Lets one of several daemons sweep: who has not renewed it for three intervals (30 s at least) loses it.",
        "one advisory lock",
        take(rule.schema, _DIALECT, ttl_for(60)),
    )
    yield _written("census", "Counts the running jobs.", reads, survey.counting(moment))
    yield _written("survey", "Finds the stale jobs, once per sweep.", reads, survey.candidates(moment))
    yield _written(
        "crossed", "Finds past their timeout who lives, to name them.", reads, survey.crossed(moment, None, _LIMIT)
    )
    yield _written(
        "lock",
        "Begins a batch. Whoever holds a row is alive, and is not waited for.",
        f"ROW SHARE on {jobs}; FOR UPDATE on the rows of the batch, until its commit",
        claim.lock,
    )
    written = ", ".join(also.table for also in profile.actions["fail"].also)
    yield _written(
        "end",
        "Judges the locked once more; makes the transition of what is still stale, and writes its audit event.",
        f"ROW EXCLUSIVE on {jobs}{f', {written}' if written else ''}; the rows are those that have just been locked",
        claim.end,
    )
    yield _written("skipped", "Tells held jobs from those that have ended.", reads, claim.still_running)
    yield _written("holder", "Names who holds the row of a silent job.", "none", _WHO, {"numbers": "the row's xmax"})


def _moment(rule: Rule) -> Moment:
    hearing = Hearing(0)
    hearing.met(Contact(now=_NOW, server_started=_NOW))
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
