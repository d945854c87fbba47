"""A broker that no setting gives to a source: believed once it has shown a task of this source.

Its workers may serve another application. They would say that they have none of the source's tasks, and each of its
jobs would look dead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from reaper.liveness import LivenessProbe, LivenessReport, TaskRemoval


class UnprovenBroker:
    """A probe of a broker whose URL is from the variable `origin`. For one thread at a time, as the probe itself."""

    def __init__(self, probe: LivenessProbe, origin: str) -> None:
        self._probe, self._origin = probe, origin
        self.proven = False

    def ask(self) -> LivenessReport:
        """What the workers say, or that it is not known whether they are the source's own."""
        return self.ask_for(lambda _: False)

    def ask_for(self, knows_any: Callable[[Collection[str]], bool]) -> LivenessReport:
        """The same; `knows_any` says whether the source has a job for any of these tasks."""
        report = self._probe.ask()
        if report.trouble is not None:
            return report
        if not self.proven and report.alive:
            self.proven = knows_any(report.alive)
        return report if self.proven else LivenessReport(trouble=self._trouble)

    def revoke(self, ids: Sequence[str]) -> None:
        """As the probe does. Raises ProbeUnavailable."""
        self._probe.revoke(ids)

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        """As the probe does: exactly these tasks, which no other application has."""
        return self._probe.remove_tasks(ids, dry_run=dry_run)

    @property
    def _trouble(self) -> str:
        return (
            f"the broker of {self._origin} has shown no task of this source yet, so its workers may serve another "
            "application; if it is the right one, give its URL as broker_url or REAPER_BROKER_URL"
        )
