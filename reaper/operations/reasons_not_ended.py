"""Why stale jobs of a source are left, for a process beside the daemon: what that keeps in the state directory, and the
halt as it can be seen.
"""

from __future__ import annotations

from dataclasses import replace

from reaper.config import Settings
from reaper.memory import kept_refused_jobs
from reaper.model import JobCounts
from reaper.operations.guards import describe_halt
from reaper.operations.halt_reading import HaltReader
from reaper.source import Source
from reaper.sweep.breaker import Breaker
from reaper.sweep.reasons_not_ended import SourceGuards, decisions, held_by


def command_guards(settings: Settings, source: Source, census: JobCounts | None) -> SourceGuards:
    """What would keep a sweep from ending stale jobs of this source now, after a look at these.

    Without a `census` breaker and cap are not asked; whether another replica holds the lease is not asked at all.
    """
    halt = HaltReader(settings, lambda _: None)()
    kept = kept_refused_jobs(settings.state_dir).load(source.name) if settings.state_dir else ()
    if census is not None:
        # Those that were refused before have not fallen silent just now.
        census = replace(census, refused=min(census.stale, len(kept)))
    guards = SourceGuards(
        halted=None if halt is None else describe_halt(halt),
        breaker=held_by(Breaker.from_settings(settings), census),
        refusal={job.key: job.error for job in kept}.get,
        ends_start_lost=settings.sources[source.name].start_lost == "end",
    )
    return guards.with_decisions_of(decisions(source, census))
