"""Notices that signs of life have vanished: an event table was swapped, emptied, or is hidden by a policy.

Jobs that had signs at the last sweep and have none at all now are not silent: their signs are gone. A few running jobs
stand for all. Only rows that belong to one job count: a worker's row that vanishes says that the worker is dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from reaper.model import Key
from reaper.source import Candidate, JobSigns, Source
from reaper.staleness.evaluation_context import EvaluationContext

MAX_SAMPLED = 50
_ENOUGH = 20


class SignSample:
    """Running jobs of one source that had signs of life at the last sweep, by witness. For the thread that sweeps."""

    def __init__(self) -> None:
        self._had_signs: dict[str, dict[Key, Candidate]] = {}
        self._vanished: set[str] = set()

    def look(self, source: Source, connection: Connection, context: EvaluationContext) -> tuple[str, ...]:
        """The witnesses whose signs have vanished since the last sweep, or before it and have not come back.

        Inside a read-only transaction. Asks nothing for a profile without rows of signs.
        """
        witnesses = source.survey.row_witnesses
        if not witnesses:
            return ()
        known = {key for jobs in self._had_signs.values() for key in jobs}
        now = source.survey.signs_of(connection, context, sorted(known)) if known else []
        for witness in witnesses:
            self._judge(witness, self._had_signs.get(witness, {}), now)
        if self._vanished or len(now) < _ENOUGH:
            others = source.survey.signs_of_some(connection, context, MAX_SAMPLED)
            self._vanished -= {witness for witness in witnesses if any(job.signs[witness] for job in others)}
            now = [*now, *(job for job in others if job.candidate.key not in known)]
        if not now:
            self._vanished.clear()
        self._had_signs = {witness: _with_signs(witness, now) for witness in witnesses}
        return tuple(sorted(self._vanished))

    def _judge(self, witness: str, had: Mapping[Key, Candidate], now: Sequence[JobSigns]) -> None:
        # A job that has been started again may have no signs yet.
        same_run = [job for job in now if had.get(job.candidate.key) == job.candidate]
        if any(job.signs[witness] for job in now):
            self._vanished.discard(witness)
        elif same_run:
            self._vanished.add(witness)

    def forget(self) -> None:
        """An operator has released the jobs: they count as silent."""
        self._vanished.clear()
        self._had_signs.clear()


def _with_signs(witness: str, jobs: Sequence[JobSigns]) -> dict[Key, Candidate]:
    return {job.candidate.key: job.candidate for job in jobs[:MAX_SAMPLED] if job.signs[witness]}
