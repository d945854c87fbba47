"""Checks that Celery's workers can be inspected, and that they serve the queues of the jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from reaper.check.finding import Finding, error, warning
from reaper.liveness import LivenessReport

_SUBJECT = "Celery's workers"


def check_workers(liveness: LivenessReport, queues: Sequence[str], named: Collection[str]) -> Iterator[Finding]:
    """`queues` are those of the source; `named` are those of all sources that share its broker."""
    if liveness.trouble is not None:
        yield error(_SUBJECT, f"{liveness.trouble}: whether their jobs are alive is unknown, so all are spared")
        return
    for queue in queues:
        if queue not in liveness.known:
            yield warning(_SUBJECT, f"no worker of the queue {queue} has answered: jobs that may be in it are spared")
    for queue, reason in liveness.unreliable.items():
        yield warning(_SUBJECT, f"{reason}: jobs that may be in the queue {queue} are spared")
    if unnamed := sorted(liveness.known.difference(named)):
        yield warning(
            _SUBJECT,
            f"they serve {', '.join(unnamed)}, which no source has in its `queues`: if jobs wait there, the reaper "
            "does not notice when those workers are gone",
        )
