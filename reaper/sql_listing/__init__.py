"""`reaper sql`: the statements of one source as text, in the order of a sweep, for a database administrator.

No database is asked: a timestamp that a sweep takes from the database's clock is shown as its distance from now.
"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.source import AuditInfo, Claim, Source
from reaper.source.evidence import evidence_cte, evidence_select
from reaper.sql_listing.mariadb import MariaDBListing
from reaper.sql_listing.postgresql import PostgreSQLListing
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter

__all__ = ["ListingOptions", "Statement", "list_statements"]


def list_statements(source: Source, options: ListingOptions) -> Iterator[Statement]:
    """The statements of every sweep but the first of a process, without COMMIT, ROLLBACK and savepoints."""
    server = PostgreSQLListing(source) if source.engine.dialect.name == "postgresql" else MariaDBListing(source)
    writer = server.writer
    yield from server.transaction_starts(options)
    yield from _survey(writer, options, server.read_locks)
    context, audit_info = writer.context(), AuditInfo(source="(source)", sweep_id="(sweep)", host="(host)")
    claim, fallback = source.claim(context, audit_info), source.fallback_claim(context, audit_info)
    yield from server.reap(claim, fallback)
    yield from server.row_holders()
    yield from _post_transition(writer, claim, fallback, server.read_locks)


def _survey(writer: StatementWriter, options: ListingOptions, locks: str) -> Iterator[Statement]:
    source, context, before = writer.source, writer.context(), writer.context(options.interval_seconds)
    yield writer.statement(
        "census",
        "Counts the running jobs, and those that have passed their timeout since the last sweep.",
        locks,
        source.survey.count_query(context, before),
    )
    yield writer.statement(
        "survey", "Finds the stale jobs, once per sweep.", locks, source.survey.candidates_query(context)
    )
    yield writer.statement(
        "crossed",
        "Finds the jobs that have passed their timeout since the last sweep and are alive.",
        locks,
        source.survey.newly_spared_query(context, before, options.max_named_jobs + 1, 0),
    )
    schema = source.rule.tables
    job = evidence_cte(source.rule, schema.jobs, context, schema.key_in_batch(schema.jobs))
    yield writer.statement(
        "evidence",
        "Reads the evidence for the verdicts on jobs that are alive, or whose row another session holds.",
        locks,
        evidence_select(job, len(source.profile.jobs.key)),
    )


def _post_transition(writer: StatementWriter, claim: Claim, fallback: Claim | None, locks: str) -> Iterator[Statement]:
    """The search for late signs of life, where a transition leaves a row of the job behind."""
    post_transition = writer.source.post_transition
    yield writer.statement("moment", "Ends a batch: reads the time of its end.", "none", post_transition.clock_query)
    claims = (claim, fallback) if fallback else (claim,)
    if not any(post_transition.leaves_row(branch.action) for claim in claims for branch in claim.transition.branches):
        return
    yield writer.statement(
        "remains",
        "After that: reads the rows as the transitions left them, to compare later rows with.",
        locks,
        post_transition.state_query,
    )
    yield writer.statement(
        "late",
        "At the end of every sweep: finds jobs that were ended lately and show signs of life since.",
        locks,
        post_transition.snapshot_query(writer.context()),
    )
