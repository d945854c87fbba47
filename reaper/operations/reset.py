"""Emergency reset: ends every running job of a source by an operator's decision, without the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.model import Evidence
from reaper.operations.end_in_batches import BulkOptions, BulkResult, end_in_bulk
from reaper.operations.fail import ManualEnd
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.batch_runner import BatchRunner
from reaper.sweep.candidate_spool import CandidateSpool
from reaper.sweep.options import new_sweep_id

MAX_PREVIEWED = 20


@dataclass(frozen=True, slots=True)
class ResetPreview:
    """What a reset would end: how many jobs of each kind, and the first MAX_PREVIEWED of them, oldest first."""

    running: int
    kinds: Sequence[tuple[str | None, int]]
    first: Sequence[Evidence]


def preview(source: Source, downtime: DowntimeTracker) -> ResetPreview:
    """Look, and change nothing. Raises DatabaseUnavailable and DBAPIError."""
    with source.connect() as connection:
        context = source.begin_evaluation(connection, downtime)
        with source.transaction(connection, read_only=True):
            kinds = source.survey.kinds(connection)
            keys = source.lookup.list_keys(connection, context, verdict=None, kind=None, limit=MAX_PREVIEWED)
            first = source.lookup.evidence(connection, context, keys)
            return ResetPreview(sum(jobs for _, jobs in kinds), kinds, first)


def reset(source: Source, downtime: DowntimeTracker, decision: ManualEnd, options: BulkOptions) -> BulkResult:
    """End every job that runs when the reset begins. Raises DatabaseUnavailable, DBAPIError and TooManyFailures."""
    run_id = new_sweep_id()
    with source.connect() as connection, CandidateSpool(options.batch_size) as spool:
        context = source.begin_evaluation(connection, downtime)
        with source.transaction(connection, read_only=True):
            spool.fill(source.survey.stream_running(connection))
        claim = source.claim(context, decision.audit_info(source.name, run_id), decision.action)
        return end_in_bulk(source, connection, BatchRunner(source, claim), spool.batches(), run_id, options)
