"""`reaper sql`: the statements of one source as text, in the order of a sweep, and recipes for one job.

For the statements no database is asked: a timestamp that a sweep takes from the database's clock is shown as its
distance from now. The recipes (`reaper.sql_listing.manual_recipes`) are for one job as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reaper.profile import Action
from reaper.source import Source
from reaper.source.evidence import evidence_query
from reaper.source.first_seen import without_start_query
from reaper.source.future_signs import future_states_query
from reaper.source.lease_zones import lease_ends_query, leases_looked_at
from reaper.source.local_time_proof import newest_signs_query, witnesses_looked_at
from reaper.source.other_units import job_in_other_unit_query
from reaper.source.post_transition_state import clock_query, leaves_row, snapshot_query, state_query
from reaper.source.survey import (
    candidates_query,
    lost_count_query,
    lost_query,
    newly_spared_query,
    row_witnesses,
    signs_query,
)
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.source.transition.second_check import is_worker_lost
from reaper.source.worker_look import holding_query, idle_query
from reaper.sql_listing.manual_recipes import Recipe, list_recipes
from reaper.sql_listing.mariadb import MariaDBListing
from reaper.sql_listing.postgresql import PostgreSQLListing
from reaper.sql_listing.writer import ListingOptions, Statement, StatementWriter
from reaper.staleness.future_signs import witnesses_ahead
from reaper.staleness.unknown_moments import columns_of_numbers, columns_without_zone

__all__ = ["ListingOptions", "Recipe", "Statement", "list_recipes", "list_statements"]


def list_statements(source: Source, options: ListingOptions) -> Iterator[Statement]:
    """The statements of every sweep but the first of a process, without COMMIT, ROLLBACK and savepoints."""
    server = _listing(source, options)
    writer = server.writer
    yield from server.transaction_starts(options)
    yield from _future_signs(writer, server.read_locks)
    source = writer.source
    for number, column in witnesses_looked_at(source.profile, columns_without_zone(source.profile)):
        purpose = f"At most once in a minute: reads whether {'.'.join(column)}, which has no time zone, is in UTC."
        yield writer.query(
            f"local_{number}_{column[1]}", purpose, server.read_locks, newest_signs_query, number, column[1]
        )
    for number, column in leases_looked_at(source.profile, columns_without_zone(source.profile)):
        purpose = f"At most once in a minute: reads whether {'.'.join(column)}, which has no time zone, is in UTC."
        yield writer.query(f"lease_{number}_{column[1]}", purpose, server.read_locks, lease_ends_query, number)
    for column in columns_of_numbers(source.profile):
        purpose = f"At most once in a minute: reads whether {'.'.join(column)} has numbers in another unit."
        name = f"other_unit_{'_'.join(column)}"
        yield writer.query(name, purpose, server.read_locks, job_in_other_unit_query, column)
    purpose = "When the sweep before has counted running jobs without a start: finds them."
    yield writer.query("without_start", purpose, server.read_locks, without_start_query)
    if source.options.gone_after_seconds is not None:
        yield writer.query("workers", "Reads the workers of the running jobs.", server.read_locks, holding_query)
        yield writer.query("idle_workers", "Reads the workers that hold none.", server.read_locks, idle_query)
    yield from _survey(writer, server.read_locks)
    locks, transition = writer.locks(), writer.transition(source.options.action)
    fallback = writer.transition("fail") if source.has_fallback else None
    yield from server.reap(locks, transition, fallback)
    yield from server.row_holders()
    if source.options.gone_after_seconds is not None:
        yield from map(_for_worker_lost, _statements_of_worker_lost(server))
    actions = [*transition.actions, *(fallback.actions if fallback else ())]
    yield from _post_transition(writer, actions, server.read_locks)
    for lost in source.swept_views[1:]:
        yield from map(_for_start_lost, _statements_of_start_lost(_listing(lost, options)))


def _listing(source: Source, options: ListingOptions) -> PostgreSQLListing | MariaDBListing:
    on_postgresql = source.engine.dialect.name == "postgresql"
    return PostgreSQLListing(source, options) if on_postgresql else MariaDBListing(source, options)


def _statements_of_start_lost(server: PostgreSQLListing | MariaDBListing) -> Iterator[Statement]:
    writer, source = server.writer, server.writer.source
    yield from _future_signs(writer, server.read_locks)
    yield from _survey(writer, server.read_locks)
    fallback = writer.transition("fail") if source.has_fallback else None
    yield from server.reap(writer.locks(), writer.transition(source.options.action), fallback)


def _statements_of_worker_lost(server: PostgreSQLListing | MariaDBListing) -> Iterator[Statement]:
    writer, options = server.writer, server.writer.source.options
    yield writer.query("lost_census", "Counts them.", server.read_locks, lost_count_query)
    yield writer.query("lost", "Finds them.", server.read_locks, lost_query)
    fallback = writer.transition("fail", is_worker_lost) if writer.source.has_fallback else None
    yield from server.reap(writer.locks(), writer.transition(options.worker_lost_action, is_worker_lost), fallback)


def _for_worker_lost(statement: Statement) -> Statement:
    purpose = f"Where a worker is gone, for its jobs that are not stale by themselves. {statement.purpose}"
    return replace(statement, name=f"{statement.name} worker lost", purpose=purpose)


def _for_start_lost(statement: Statement) -> Statement:
    purpose = f"For jobs whose start was lost. {statement.purpose}"
    return replace(statement, name=f"{statement.name} start lost", purpose=purpose)


def _future_signs(writer: StatementWriter, locks: str) -> Iterator[Statement]:
    profile = writer.source.profile
    for number in witnesses_ahead(profile):
        witness = profile.alive[number].witness
        purpose = f"At most once in a minute: finds jobs with a sign of life in the future from {witness}."
        yield writer.query(f"future_{number}", purpose, locks, future_states_query, number)


def _survey(writer: StatementWriter, locks: str) -> Iterator[Statement]:
    purpose = "Counts the running jobs, and those that have passed their timeout since the last sweep."
    yield writer.query("census", purpose, locks, count_query)
    if writer.source.statements.new_rule().limits_are_of_kinds:
        purpose = "Counts those past their timeout by themselves, where some jobs of a kind are and others are not."
        yield writer.query("past_timeout", purpose, locks, past_timeout_query)
    yield writer.query("survey", "Finds the stale jobs, once per sweep.", locks, candidates_query)
    purpose = "Finds the jobs that have passed their timeout since the last sweep and are alive."
    yield writer.query("crossed", purpose, locks, newly_spared_query)
    if row_witnesses(writer.source.profile):
        purpose = "Looks whether running jobs that had signs of life still have any: signs that vanish are no silence."
        yield writer.query("still_signs", purpose, locks, signs_query, True)
        purpose = "Finds some running jobs with signs of life, where too few are known."
        yield writer.query("some_signs", purpose, locks, signs_query, False)
    purpose = "Reads the evidence for the verdicts on jobs that are alive, or whose row another session holds."
    yield writer.query("evidence", purpose, locks, evidence_query, writer.source.options.action)


def _post_transition(writer: StatementWriter, actions: Sequence[Action], locks: str) -> Iterator[Statement]:
    """The search for late signs of life, where a transition leaves a row of the job behind."""
    yield writer.query("moment", "Ends a batch: reads the time of its end.", "none", clock_query)
    if not any(leaves_row(writer.source.profile, action) for action in actions):
        return
    purpose = "After that: reads the rows as the transitions left them, to compare later rows with."
    yield writer.query("remains", purpose, locks, state_query)
    purpose = "At the end of every sweep: finds jobs that were ended lately and show signs of life since."
    yield writer.query("late", purpose, locks, snapshot_query)
