"""The emergency exit: every running job of a source is ended by a person's decision, and nobody asks the rule."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from reaper.model import Evidence
from reaper.operations.bulk import BulkOptions, BulkResult, end_in_bulk
from reaper.operations.fail import ManualEnd
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.batches import BatchRunner
from reaper.sweep.candidate_spool import CandidateSpool

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Overview:
    """What would be ended: how many jobs of each kind, and the oldest of them, oldest first."""

    running: int
    kinds: Sequence[tuple[str | None, int]]
    first: Sequence[Evidence]


def overview(source: Source, downtime: DowntimeTracker) -> Overview:
    """Look, and change nothing. Raises DatabaseAway and DBAPIError."""
    with source.connect() as connection:
        context = source.begin_evaluation(connection, downtime)
        with source.transaction(connection, read_only=True):
            kinds = source.survey.kinds(connection)
            keys = source.lookup.list_keys(connection, context, verdict=None, kind=None, limit=SHOWN)
            return Overview(sum(jobs for _, jobs in kinds), kinds, source.lookup.evidence(connection, context, keys))


def reset(source: Source, downtime: DowntimeTracker, decision: ManualEnd, hand: BulkOptions) -> BulkResult:
    """End every job that runs when it begins. Raises DatabaseAway, DBAPIError and TooManyRefused."""
    run_id = uuid.uuid4().hex[:12]
    with source.connect() as connection, CandidateSpool(hand.batch_size) as spool:
        context = source.begin_evaluation(connection, downtime)
        with source.transaction(connection, read_only=True):
            spool.fill(source.survey.stream_running(connection))
        claim = source.claim(context, decision.audit_info(source.name, run_id), decision.action)
        return end_in_bulk(source, connection, BatchRunner(source, claim), spool.batches(), run_id, hand)
