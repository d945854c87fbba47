"""The statements of one source, in the order of a sweep, written out for a database administrator.

No database is asked: moments that a sweep takes from the database's clock are spelled as their distance from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.source import AuditInfo, Claim, Source
from reaper.source.evidence import evidence_cte, evidence_select
from reaper.sql_listing.mariadb import MariaDB
from reaper.sql_listing.postgresql import PostgreSQL
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter

__all__ = ["ListingOptions", "Statement", "script"]


def script(source: Source, terms: ListingOptions) -> Iterator[Statement]:
    """Every statement of a sweep that is not its source's first, apart from COMMIT, ROLLBACK and savepoints."""
    server = PostgreSQL(source) if source.engine.dialect.name == "postgresql" else MariaDB(source)
    hand = server.hand
    yield from server.opening(terms)
    yield from _surveying(hand, terms, server.reads)
    context, audit_info = hand.context(), AuditInfo(source="(source)", sweep_id="(sweep)", host="(host)")
    claim, instead = source.claim(context, audit_info), source.fallback_claim(context, audit_info)
    yield from server.ending(claim, instead)
    yield from server.naming()
    yield from _looking_back(hand, claim, instead, server.reads)


def _looking_back(hand: StatementWriter, claim: Claim, instead: Claim | None, reads: str) -> Iterator[Statement]:
    """Only where something is left of a job that was ended."""
    follow_up = hand.source.follow_up
    yield hand.written("moment", "Ends a batch: when that was.", "none", follow_up.clock_query)
    if not any(
        follow_up.leaves_row(arm.action) for each in (claim, instead) if each for arm in each.transition.branches
    ):
        return
    yield hand.written(
        "remains",
        "Then: what the transitions left of the jobs, to be compared with what is there later.",
        reads,
        follow_up.state_query,
    )
    yield hand.written(
        "late",
        "Looks, at the end of every sweep, whether jobs that were ended lately show life.",
        reads,
        follow_up.snapshot_query(hand.context()),
    )


def _surveying(hand: StatementWriter, terms: ListingOptions, reads: str) -> Iterator[Statement]:
    source, context, before = hand.source, hand.context(), hand.context(terms.interval)
    yield hand.written(
        "census",
        "Counts the running jobs, and those that have passed their timeout since the last sweep.",
        reads,
        source.survey.count_query(context, before),
    )
    yield hand.written(
        "survey", "Finds the stale jobs, once per sweep.", reads, source.survey.candidates_query(context)
    )
    yield hand.written(
        "crossed",
        "Finds who has passed their timeout since the last sweep and lives.",
        reads,
        source.survey.newly_spared_query(context, before, terms.named + 1, 0),
    )
    schema = source.rule.tables
    job = evidence_cte(source.rule, schema.jobs, context, schema.key_in_batch(schema.jobs))
    yield hand.written(
        "evidence",
        "Tells what the verdict on these jobs rests on: those that live, and those whose row is held.",
        reads,
        evidence_select(job, len(source.profile.jobs.key)),
    )
