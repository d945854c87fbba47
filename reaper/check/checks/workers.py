"""Can Celery's workers be asked, and are they those that the jobs wait for?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from reaper.check.finding import Finding, error, warning
from reaper.liveness import LivenessReport

_SUBJECT = "Celery's workers"


def check_workers(liveness: LivenessReport, queues: Sequence[str], named: Collection[str]) -> Iterator[Finding]:
    """A source's jobs wait in `queues`; all sources that share its broker have `named` between them."""
    if liveness.trouble is not None:
        yield error(_SUBJECT, f"{liveness.trouble}: every job of theirs is unknown, and spared")
        return
    for queue in queues:
        if queue not in liveness.known:
            yield warning(_SUBJECT, f"none of the queue {queue} has answered: jobs that may be in it are spared")
    for queue, why in liveness.unreliable.items():
        yield warning(_SUBJECT, f"{why}: jobs that may be in the queue {queue} are spared")
    if unnamed := sorted(liveness.known.difference(named)):
        yield warning(
            _SUBJECT,
            f"they serve {', '.join(unnamed)}, which no source's `queues` names: "
            "should jobs wait there, nobody misses those workers once they are gone",
        )
