"""The statements of one source, in the order of a sweep, written out for a database administrator.

No database is asked: moments that a sweep takes from the database's clock are spelled as their distance from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.source import Claim, Source, Stamp
from reaper.source.evidence import judged, shown
from reaper.source.script.hand import Hand, Statement, Terms
from reaper.source.script.mariadb import MariaDB
from reaper.source.script.postgresql import PostgreSQL

__all__ = ["Statement", "Terms", "script"]


def script(source: Source, terms: Terms) -> Iterator[Statement]:
    """Every statement of a sweep that is not its source's first, apart from COMMIT, ROLLBACK and savepoints."""
    server = PostgreSQL(source) if source.engine.dialect.name == "postgresql" else MariaDB(source)
    hand = server.hand
    yield from server.opening(terms)
    yield from _surveying(hand, terms, server.reads)
    moment, stamp = hand.moment(), Stamp(source="(source)", sweep_id="(sweep)", host="(host)")
    claim, instead = source.claim(moment, stamp), source.instead(moment, stamp)
    yield from server.ending(claim, instead)
    yield from server.naming()
    yield from _looking_back(hand, claim, instead, server.reads)


def _looking_back(hand: Hand, claim: Claim, instead: Claim | None, reads: str) -> Iterator[Statement]:
    """Only where something is left of a job that was ended."""
    afterlife = hand.source.afterlife
    yield hand.written("moment", "Ends a batch: when that was.", "none", afterlife.moment)
    if not any(afterlife.leaves(arm.action) for each in (claim, instead) if each for arm in each.ending.arms):
        return
    yield hand.written(
        "remains",
        "Then: what the transitions left of the jobs, to be compared with what is there later.",
        reads,
        afterlife.leaving,
    )
    yield hand.written(
        "late",
        "Looks, at the end of every sweep, whether jobs that were ended lately show life.",
        reads,
        afterlife.looking(hand.moment()),
    )


def _surveying(hand: Hand, terms: Terms, reads: str) -> Iterator[Statement]:
    source, moment, before = hand.source, hand.moment(), hand.moment(terms.interval)
    yield hand.written(
        "census",
        "Counts the running jobs, and those that have passed their timeout since the last sweep.",
        reads,
        source.survey.counting(moment, before),
    )
    yield hand.written("survey", "Finds the stale jobs, once per sweep.", reads, source.survey.candidates(moment))
    yield hand.written(
        "crossed",
        "Finds who has passed their timeout since the last sweep and lives.",
        reads,
        source.survey.crossed(moment, before, terms.named + 1, 0),
    )
    schema = source.rule.schema
    job = judged(source.rule, schema.jobs, moment, schema.keyed(schema.key(schema.jobs)))
    yield hand.written(
        "evidence",
        "Tells what the verdict on these jobs rests on: those that live, and those whose row is held.",
        reads,
        shown(job, len(source.profile.jobs.key)),
    )
