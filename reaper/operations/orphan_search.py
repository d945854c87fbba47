"""Orphans on the command line: whom to ask, and what is shown of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reaper.common.terminal import say
from reaper.config import Settings
from reaper.errors import ProbeUnavailable, ReaperError
from reaper.liveness import LivenessReport
from reaper.operations import report
from reaper.operations.orphans import Orphan, confirmed_orphans, revoke
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source
from reaper.source.factory import on_same_broker


def report_with_orphans(settings: Settings, source: Source, wanted: report.ReportQuery) -> report.Report:
    """Everything of one source. What cannot be told of it is told on stderr, and is no reason to tell nothing."""
    found = report.report(source, new_downtime_tracker(settings), wanted)
    for note in found.notes:
        say(f"reaper: source {source.name}: {note}")
    if found.liveness is None or found.liveness.trouble is not None:
        return found
    try:
        return replace(found, orphans=find_orphans(settings, source, found.liveness))
    except ReaperError as error:
        say(f"reaper: {error}")
        return found


def find_orphans(settings: Settings, source: Source, liveness: LivenessReport | None = None) -> list[Orphan]:
    """The orphans of the broker of this source; none where there is no broker.

    Raises WitnessAway when the workers cannot be asked; DatabaseAway or ReaperError when one of the sources that share
    the broker cannot.
    """
    witness = source.options.probe
    if witness is None:
        return []
    with prefix_errors(source):
        said = liveness or witness.ask()
        if said.trouble is not None:
            raise ProbeUnavailable(said.trouble)
        return confirmed_orphans(_sharing(settings, source), said, lambda: new_downtime_tracker(settings), time.sleep)


def revoke_orphans(settings: Settings, source: Source, chosen: Sequence[Orphan]) -> list[Orphan]:
    """Have the workers end those that still are orphans. Raises as `find_orphans` does."""
    with prefix_errors(source):
        return revoke(_sharing(settings, source), chosen, lambda: new_downtime_tracker(settings))


def one_per_broker(settings: Settings, sources: Iterable[Source]) -> Iterator[Source]:
    """Of the sources that share a broker, one."""
    asked = set[str | None]()
    for source in sources:
        broker = settings.sources[source.name].broker
        url = broker.get_secret_value() if broker else None
        if source.options.probe is not None and url not in asked:
            asked.add(url)
            yield source


def describe_orphan(orphan: Orphan) -> str:
    name = f" ({orphan.task})" if orphan.task else ""
    return f"Orphan: task {orphan.id}{name} is being executed by {orphan.worker}, and no job knows it"


def _sharing(settings: Settings, source: Source) -> list[Source]:
    """The source itself first: its witness is the one that is asked."""
    others = (found for found in on_same_broker(settings, source.name) if found.name != source.name)
    return [source, *(create_one_off_source(settings, found) for found in others)]
