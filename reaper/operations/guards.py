"""The guards of what ends jobs, and what passes each of them: for commands, HTTP requests and Celery tasks alike.

| guard | what it holds | what passes it |
|---|---|---|
| halt | sweep, cleanup, clear, reset, purge, close-interrupted | `while_halted` |
| breaker | sweep, cleanup, clear; close-interrupted without a holder | `release`: so many jobs of a source, or fewer |
| silence across a restart of the database | sweep, cleanup, clear | `trust_silence` |
| observe | everything that ends, revokes or deletes | `while_observed` |

The question is the guard of commands alone: `reaper.cli.sweep`, `reaper.cli.clear`, `reaper.cli.cleanup`,
`reaper.cli.reset`, `reaper.cli.purge`, `reaper.cli.fail` and `reaper.cli.close_interrupted` ask it. How a halt is seen:
`reaper.operations.halt_reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from reaper.config import Settings
from reaper.errors import HaltInForce
from reaper.memory import HaltRecord
from reaper.operations.halt_reading import HaltReader
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.options import SweepOptions


@dataclass(frozen=True, slots=True)
class GuardPasses:
    """Which guards the caller has passed. `release`: how many stale jobs of a source the breaker lets through."""

    while_halted: bool = False
    release: int = 0
    trust_silence: bool = False
    while_observed: bool = False

    def applied_to(self, settings: Settings) -> Settings:
        """With `while_observed`, the settings of an operation that ends jobs of observed sources, too."""
        return settings.ending_observed() if self.while_observed else settings

    def sweep_options(self, settings: Settings, halt: HaltGuard, *, dry_run: bool = False) -> SweepOptions:
        """A sweep that these guards hold: by the breaker before it ends a job, by a halt before each batch."""
        options = SweepOptions.from_settings(settings, dry_run=dry_run)
        return replace(options, override_breaker_up_to=self.release, is_halted=halt.holds)

    def downtime_tracker(self, settings: Settings) -> DowntimeTracker:
        """For a process that asks once. With `trust_silence`, silence from before the server's start counts."""
        return DowntimeTracker(0) if self.trust_silence else new_downtime_tracker(settings)


NO_PASSES = GuardPasses()


class HaltGuard:
    """Whether a halt holds one operation. `read` returns the halt in force, and is called before each batch.

    With `while_halted`, the halt that is in force when the operation begins is passed. A halt that follows holds it: it
    is meant for this operation, too.
    """

    def __init__(self, read: Callable[[], HaltRecord | None], *, while_halted: bool = False) -> None:
        self._read = read
        self._passed = read() if while_halted else None
        self.held_by: HaltRecord | None = None
        """The halt that was last seen to hold the operation: it may be over by now."""

    @property
    def current(self) -> HaltRecord | None:
        """The halt that holds the operation; None when none does."""
        halt = self._read()
        if halt is None or halt == self._passed:
            return None
        self.held_by = halt
        return halt

    def holds(self) -> bool:
        return self.current is not None

    def require_none(self) -> None:
        """Raises HaltInForce, which says who has halted it, why, and what passes."""
        if (halt := self.current) is not None:
            raise HaltInForce(
                f"{describe_halt(halt)}: nothing was changed. `reaper restart` ends the halt; --while-halted passes it "
                '(over HTTP "while_halted": true)'
            )


def require_none_observed(sources: Iterable[Source]) -> None:
    """Raises SourceObserved for the first source that is only observed: nothing is ended in any."""
    for source in sources:
        source.require_not_observed()


def halt_guard(settings: Settings, *, while_halted: bool) -> HaltGuard:
    """The guard for a process beside the daemon. Where no halt can be seen, stderr says so."""
    return HaltGuard(HaltReader(settings), while_halted=while_halted)


def halt_members(halt: HaltRecord | None) -> dict[str, object] | None:
    """A halt as JSON members, as over HTTP."""
    return None if halt is None else {"by": halt.by, "reason": halt.reason, "persistent": halt.persistent}


def describe_halt(halt: HaltRecord) -> str:
    """Who has halted the reaper, and why, in one line."""
    return f"halted by {halt.by}{f' ({halt.reason})' if halt.reason else ''}"
