"""Telling Celery's workers to end what they still execute of jobs that have been ended: never before the commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessProbe, LivenessReport
from reaper.model import ReapedJob


class TaskRevocation:
    """What one sweep tells the workers. `trouble` says why tasks of ended jobs may still be executed, None if none are.

    `told` is kept from sweep to sweep: tasks of ended jobs that a worker had when it was last heard → that worker.
    """

    def __init__(self, probe: LivenessProbe | None, unconfirmed: dict[str, str]) -> None:
        self._probe, self._unconfirmed = probe, unconfirmed
        self.trouble: str | None = None

    def retry_earlier(self, liveness: LivenessReport) -> None:
        """Tasks of jobs that were ended in earlier sweeps, and are still being executed by the same worker.

        Nobody else would ever end them: their rows say that they are over.
        """
        for id_ in [id_ for id_, worker in self._unconfirmed.items() if liveness.executing.get(id_) != worker]:
            del self._unconfirmed[id_]
        if self._unconfirmed:
            self.trouble = f"{len(self._unconfirmed)} task(s) of ended jobs are still being executed"
            self._send(list(self._unconfirmed))

    def revoke_tasks_of(self, jobs: Iterable[ReapedJob], liveness: LivenessReport | None) -> None:
        """These are committed: a worker that still executes one is told to stop."""
        if liveness is None:
            return
        executing = liveness.executing
        running = {job.task: executing[job.task] for job in jobs if job.task and job.task in executing}
        self._unconfirmed |= running
        # Workers that could not be told a moment ago would cost each batch their whole deadline.
        if running and self.trouble is None:
            self._send(list(running))

    def _send(self, tasks: Sequence[str]) -> None:
        try:
            if self._probe is not None:
                self._probe.revoke(tasks)
        except ProbeUnavailable as problem:
            # Their jobs have ended all the same. The next sweep tries again.
            self.trouble = f"tasks of ended jobs may still be executed: {problem}"
