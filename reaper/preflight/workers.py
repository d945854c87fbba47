"""Can Celery's workers be asked, and are they those that the jobs wait for?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from reaper.preflight.finding import Finding, error, warning
from reaper.witness import Testimony

_SUBJECT = "Celery's workers"


def check_workers(testimony: Testimony, queues: Sequence[str], named: Collection[str]) -> Iterator[Finding]:
    """A source's jobs wait in `queues`; all sources that share its broker have `named` between them."""
    if testimony.trouble is not None:
        yield error(_SUBJECT, f"{testimony.trouble}: every job of theirs is unknown, and spared")
        return
    for queue in queues:
        if queue not in testimony.met:
            yield warning(_SUBJECT, f"none of the queue {queue} has answered: jobs that may be in it are spared")
    for queue, why in testimony.doubted.items():
        yield warning(_SUBJECT, f"{why}: jobs that may be in the queue {queue} are spared")
    if unnamed := sorted(testimony.met.difference(named)):
        yield warning(
            _SUBJECT,
            f"they serve {', '.join(unnamed)}, which no source's `queues` names: "
            "should jobs wait there, nobody misses those workers once they are gone",
        )
