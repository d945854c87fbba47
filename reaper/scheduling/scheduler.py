"""The schedule of sweeps and purges: when each source is swept and purged, and nothing else.

While it is HALTED, sweeps run at their times and end nothing: metrics go on, outages are seen, and the lease is kept,
so that no replica ends what was halted here. FINISHED is a schedule that was stopped or has died.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from apscheduler.triggers.base import BaseTrigger

from reaper.memory import HaltRecord
from reaper.model import SweepReport
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.source_runner import SourceRunner
from reaper.sweep.halt_switch import HaltSwitch

_LATE_SECONDS = 5.0


class IntervalTrigger(BaseTrigger):  # type: ignore[misc]
    """First after `first` seconds, then every `interval` seconds from one start to the next.

    Times in the past are skipped: when the host's clock is corrected after the start of the process, it may jump by
    decades, and APScheduler would list each run that it missed.
    """

    def __init__(self, first: float, interval: float) -> None:
        self._first, self._interval = timedelta(seconds=first), timedelta(seconds=interval)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now + self._first
        missed = max(0, (now - previous_fire_time) // self._interval)
        return previous_fire_time + (missed + 1) * self._interval


class State(StrEnum):
    """What the schedule does."""

    RUNNING = "RUNNING"
    HALTED = "HALTED"
    FINISHED = "FINISHED"


class Supervisor:
    """Runs each source's sweeps at its interval, and its purges at theirs, on threads of their own.

    Neither overlaps itself; sweeps and purges of one source run side by side. Thread-safe.
    """

    def __init__(self, halt: HaltSwitch | None = None, schedule: ScheduleThread | None = None) -> None:
        self.halt_switch = halt or HaltSwitch()
        self._schedule = schedule or ScheduleThread()
        self._started = False
        self._changing = threading.RLock()
        self._runners: dict[str, SourceRunner] = {}
        self._scheduled_purges: dict[str, tuple[ScheduledPurge, BaseTrigger]] = {}
        self._stopping: list[SourceRunner | ScheduledPurge] = []

    @property
    def runners(self) -> Sequence[SourceRunner]:
        return tuple(self._runners.values())

    @property
    def scheduled_purges(self) -> Mapping[str, tuple[ScheduledPurge, BaseTrigger]]:
        """By source: its purges, and when they are due."""
        return dict(self._scheduled_purges)

    @property
    def state(self) -> State | None:
        """None without sources, and before `start`."""
        if not self._runners or not self._started:
            return None
        if not self._schedule.is_alive:
            return State.FINISHED
        return State.HALTED if self.halt_switch.is_halted else State.RUNNING

    @property
    def unfinished(self) -> Sequence[SourceRunner | ScheduledPurge]:
        """What `stop` and `remove` have stopped, and what was still in progress when they gave up waiting."""
        return tuple(self._stopping)

    def start(self) -> None:
        with self._changing:
            self._schedule.start()
            self._started = True

    def halt(self, record: HaltRecord) -> None:
        """End nothing from now on. A sweep in progress ends after its batch; this does not wait for it.

        Raises ReaperError when the halt is to be persistent and cannot be written; it is in force all the same.
        """
        self.halt_switch.set(record)

    def restart(self) -> None:
        """Resume after a halt, and with a new schedule if the old one has died. Each source is swept at once.

        Raises ReaperError, and stays halted, when a persistent halt cannot be removed.
        """
        with self._changing:
            was_halted = self.halt_switch.is_halted
            self.halt_switch.clear()
            if self._started and not self._schedule.is_alive:
                self._restart_schedule()
            elif was_halted:
                for runner in self._runners.values():
                    self._reschedule(runner, 0)

    def _restart_schedule(self) -> None:
        self._schedule.shut_down()
        self._schedule = ScheduleThread()
        for runner in self._runners.values():
            self._schedule_sweeps(runner)
        for scheduled_purge, trigger in self._scheduled_purges.values():
            self._schedule_purge(scheduled_purge, trigger)
        self._schedule.start()

    def add(self, runner: SourceRunner) -> None:
        """Sweep this source from now on, the first time at once."""
        with self._changing:
            self._runners[runner.name] = runner
            self._schedule_sweeps(runner)

    def _schedule_sweeps(self, runner: SourceRunner) -> None:
        trigger = IntervalTrigger(0, runner.retry_schedule.interval_seconds)
        self._schedule.add(runner.name, self._sweep_and_reschedule(runner), trigger)

    def add_scheduled_purge(self, scheduled_purge: ScheduledPurge, trigger: BaseTrigger) -> None:
        """Purge this source at the times of the trigger from now on, until `remove` is called for the source."""
        with self._changing:
            self._scheduled_purges[scheduled_purge.name] = (scheduled_purge, trigger)
            self._schedule_purge(scheduled_purge, trigger)

    def _schedule_purge(self, scheduled_purge: ScheduledPurge, trigger: BaseTrigger) -> None:
        self._schedule.add(_purge_job_id(scheduled_purge.name), scheduled_purge.tick, trigger)

    def remove(self, names: Iterable[str], patience_seconds: float) -> None:
        """Start no more sweeps and purges of these sources; those in progress end after their batch.

        Waits for them for at most `patience_seconds`. A source may be added again at once, even if its old sweep is
        still in progress: the schedule lets no two runs of one name overlap.
        """
        with self._changing:
            for name in list(names):
                runner, purge_entry = self._runners.pop(name), self._scheduled_purges.pop(name, None)
                self._schedule.remove(name)
                runner.stop()
                self._stopping.append(runner)
                if purge_entry is not None:
                    self._schedule.remove(_purge_job_id(name))
                    purge_entry[0].stop()
                    self._stopping.append(purge_entry[0])
        self._join(self._stopping, patience_seconds)

    def recover_from_clock_change(self) -> None:
        """Run what is late although it is not running: the host's clock was set back under the schedule."""
        with self._changing:
            late = [runner for runner in self._runners.values() if runner.overdue_seconds > _LATE_SECONDS]
            for runner in late if self._schedule.is_alive else ():
                self._reschedule(runner, 0)
                if runner.name in self._scheduled_purges:
                    self._schedule.reschedule(_purge_job_id(runner.name))

    def stop(self, patience_seconds: float) -> bool:
        """Let sweeps and purges in progress finish their batch. False when one did not within `patience_seconds`."""
        with self._changing:
            if self._schedule.is_alive:
                self._schedule.pause()
            scheduled_purges = (scheduled_purge for scheduled_purge, _ in self._scheduled_purges.values())
            workers: list[SourceRunner | ScheduledPurge] = [*self._runners.values(), *scheduled_purges]
            for worker in workers:
                worker.stop()
            self._stopping += workers
        self._join(self._stopping, patience_seconds)
        self._schedule.shut_down()
        return not self._stopping

    @staticmethod
    def _join(stopping: list[SourceRunner | ScheduledPurge], patience_seconds: float) -> None:
        """Wait for these to end; those that did not in time stay in the list."""
        deadline = time.monotonic() + patience_seconds
        stopping[:] = [worker for worker in stopping if not worker.join(deadline - time.monotonic())]

    def _sweep_and_reschedule(self, runner: SourceRunner) -> Callable[[], SweepReport | None]:
        """A sweep; after a failed one the next is due sooner than the interval says."""

        def run() -> SweepReport | None:
            report = runner.tick()
            if report is not None and runner.delay_seconds < runner.retry_schedule.interval_seconds:
                self._reschedule(runner, runner.delay_seconds)
            return report

        return run

    def _reschedule(self, runner: SourceRunner, delay_seconds: float) -> None:
        with self._changing:
            if self._runners.get(runner.name) is runner:
                trigger = IntervalTrigger(delay_seconds, runner.retry_schedule.interval_seconds)
                self._schedule.reschedule(runner.name, trigger)


def _purge_job_id(name: str) -> str:
    """The name of a source's purges in the schedule. A source's name has no space, so this is never one."""
    return f"{name} purge"
