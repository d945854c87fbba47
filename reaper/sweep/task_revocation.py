"""Revokes the Celery tasks of ended jobs that workers still execute; always after the commit, never before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessProbe, LivenessReport
from reaper.model import ReapedJob


class TaskRevocation:
    """The revocations of one sweep. `trouble`: why tasks of ended jobs may still be executed; None when none are.

    `unconfirmed` is kept between sweeps: tasks of ended jobs, and the worker that executed each when it last answered.
    """

    def __init__(self, probe: LivenessProbe | None, unconfirmed: dict[str, str]) -> None:
        self._probe, self._unconfirmed = probe, unconfirmed
        self._workers_away = False
        self.trouble: str | None = None

    def retry_earlier(self, liveness: LivenessReport) -> None:
        """Revoke again what earlier sweeps have revoked and the same worker still executes.

        Nothing else would end those tasks: their rows say that they are over. A task that another worker has taken up
        since is a new run, and is left alone.
        """
        for id_ in [id_ for id_, worker in self._unconfirmed.items() if liveness.executing.get(id_) != worker]:
            del self._unconfirmed[id_]
        if self._unconfirmed:
            self.trouble = f"{len(self._unconfirmed)} task(s) of ended jobs are still being executed"
            self._send(list(self._unconfirmed))

    def revoke_tasks_of(self, jobs: Iterable[ReapedJob], liveness: LivenessReport | None) -> None:
        """Revoke the tasks of these jobs, whose end is committed, where a worker still executes them."""
        if liveness is None:
            return
        executing = liveness.executing
        running = {job.task: executing[job.task] for job in jobs if job.task and job.task in executing}
        self._unconfirmed |= running
        # Workers that did not answer a moment ago would cost each batch their whole deadline.
        if running and not self._workers_away:
            self._send(list(running))

    def _send(self, tasks: Sequence[str]) -> None:
        try:
            if self._probe is not None:
                self._probe.revoke(tasks)
        except ProbeUnavailable as problem:
            # The jobs have ended all the same. The next sweep tries again.
            self._workers_away = True
            self.trouble = f"tasks of ended jobs may still be executed: {problem}"
