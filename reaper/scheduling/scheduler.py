"""The schedule of sweeps and purges: APScheduler, one job per source and sort. No logic of its own beyond when.

While it is HALTED sweeps come at their times and only look: the metrics go on, outages are seen, and the lease is
kept, so that no replica does what was halted here. FINISHED is a schedule that has ended, or that died.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from reaper.memory import HaltRecord
from reaper.model import SweepReport
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.source_runner import SourceRunner
from reaper.sweep.halt import HaltSwitch

_LATE_SECONDS = 5.0
# A source whose database hangs keeps its thread, and with a limit enough of them would keep the others from sweeping.
# The pool makes a thread only when all that it has are at work.
_MOST_THREADS = sys.maxsize


class IntervalTrigger(BaseTrigger):  # type: ignore[misc]
    """First after `first` seconds, then every `interval` seconds from one start to the next.

    What lies in the past is left out. A clock that is set right only after the start of the process jumps by decades,
    and the scheduler would list each run that it missed.
    """

    def __init__(self, first: float, interval: float) -> None:
        self._first, self._interval = timedelta(seconds=first), timedelta(seconds=interval)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now + self._first
        missed = max(0, (now - previous_fire_time) // self._interval)
        return previous_fire_time + (missed + 1) * self._interval


class CronTrigger(BaseTrigger):  # type: ignore[misc]
    """At the times of a cron expression, in UTC. What lies in the past is left out, as with `Regularly`."""

    def __init__(self, cron: str) -> None:
        """Raises ValueError for an expression that APScheduler cannot read."""
        # Most have no such schedule, and need not carry what it takes.
        from apscheduler.triggers.cron import CronTrigger

        self._times = CronTrigger.from_crontab(cron, timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """None when it never comes."""
        begin = now if previous_fire_time is None else max(now, previous_fire_time + timedelta(microseconds=1))
        found: datetime | None = self._times.get_next_fire_time(None, begin)
        return found


class ScheduleState(StrEnum):
    """What the schedule does."""

    RUNNING = "RUNNING"
    HALTED = "HALTED"
    FINISHED = "FINISHED"


class Supervisor:
    """Fires each watch at its pace. A sweep never overlaps itself; missed ones are made up for by one.

    Purges are fired beside the sweeps, on threads of their own, and do not overlap themselves either. The state may be
    asked for, and changed, from any thread.
    """

    def __init__(self, halt: HaltSwitch | None = None) -> None:
        self.halt_switch = halt or HaltSwitch()
        self._scheduler = _scheduler()
        self._started = False
        self._changing = threading.RLock()
        self._runners: dict[str, SourceRunner] = {}
        self._scheduled_purges: dict[str, tuple[ScheduledPurge, BaseTrigger]] = {}
        self._stopping: list[SourceRunner | ScheduledPurge] = []

    @property
    def runners(self) -> Sequence[SourceRunner]:
        return tuple(self._runners.values())

    @property
    def state(self) -> ScheduleState | None:
        """None when there is nothing to do on schedule, or not yet."""
        if not self._runners or not self._started:
            return None
        if not self._alive:
            return ScheduleState.FINISHED
        return ScheduleState.HALTED if self.halt_switch.is_halted else ScheduleState.RUNNING

    @property
    def _alive(self) -> bool:
        """The schedule's thread lives. An error in the schedule itself ends it, and nobody else would notice."""
        thread = self._scheduler._thread  # None before it has begun; nothing public tells whether it lives
        return self._scheduler.running and thread is not None and thread.is_alive()

    def start(self) -> None:
        with self._changing:
            self._scheduler.start()
            self._started = True

    def halt(self, halted: HaltRecord) -> None:
        """End nothing from now on; what works ends after its batch, and nobody waits for that.

        Raises ReaperError, and goes on, when it is to last and that cannot be kept.
        """
        self.halt_switch.set(halted)

    def restart(self) -> None:
        """Go on after a halt, and with a new schedule after one that has died. Each source is swept at once.

        Raises ReaperError, and stays halted, when a halt that was to last cannot be removed.
        """
        with self._changing:
            was_halted = self.halt_switch.is_halted
            self.halt_switch.clear()
            if self._started and not self._alive:
                self._restart_schedule()
            elif was_halted:
                for runner in self._runners.values():
                    self._reschedule(runner, 0)

    def _restart_schedule(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        self._scheduler = _scheduler()
        for runner in self._runners.values():
            self._schedule(runner)
        for scheduled_purge, trigger in self._scheduled_purges.values():
            self._schedule_purge(scheduled_purge, trigger)
        self._scheduler.start()

    def add(self, runner: SourceRunner) -> None:
        """Sweep this source from now on, the first time at once."""
        with self._changing:
            self._runners[runner.name] = runner
            self._schedule(runner)

    def _schedule(self, runner: SourceRunner) -> None:
        self._scheduler.add_job(
            self._fire(runner), IntervalTrigger(0, runner.retry_schedule.interval_seconds), id=runner.name
        )

    def add_scheduled_purge(self, scheduled_purge: ScheduledPurge, trigger: BaseTrigger) -> None:
        """Purge this source from now on whenever the trigger says. It goes with its source."""
        with self._changing:
            self._scheduled_purges[scheduled_purge.name] = (scheduled_purge, trigger)
            self._schedule_purge(scheduled_purge, trigger)

    def _schedule_purge(self, scheduled_purge: ScheduledPurge, trigger: BaseTrigger) -> None:
        self._scheduler.add_job(scheduled_purge.tick, trigger, id=_purge_job_id(scheduled_purge.name))

    def remove(self, names: Iterable[str], patience_seconds: float) -> None:
        """Begin no more sweeps and purges of these sources; those that work end after their batch.

        Waits for that, but not for ever: the same source may be added again at once, for the schedule lets no two of
        one name work at the same time.
        """
        with self._changing:
            for name in list(names):
                runner, purging = self._runners.pop(name), self._scheduled_purges.pop(name, None)
                self._scheduler.remove_job(name)
                runner.stop()
                self._stopping.append(runner)
                if purging is not None:
                    self._scheduler.remove_job(_purge_job_id(name))
                    purging[0].stop()
                    self._stopping.append(purging[0])
        self._join(self._stopping, patience_seconds)

    def recover_from_clock_change(self) -> None:
        """Reschedule what is late although nothing works: the host's clock was set back under the schedule."""
        with self._changing:
            late = [runner for runner in self._runners.values() if runner.overdue_seconds > _LATE_SECONDS]
            for runner in late if self._alive else ():
                self._reschedule(runner, 0)
                if runner.name in self._scheduled_purges:
                    job = self._scheduler.get_job(_purge_job_id(runner.name))
                    job.reschedule(job.trigger)

    def stop(self, patience_seconds: float) -> bool:
        """Let running sweeps and purges finish their batch. False when one did not within `patience_seconds`."""
        with self._changing:
            self._scheduler.pause()
            scheduled_purges = (scheduled_purge for scheduled_purge, _ in self._scheduled_purges.values())
            working: list[SourceRunner | ScheduledPurge] = [*self._runners.values(), *scheduled_purges]
            for each in working:
                each.stop()
            self._stopping += working
        self._join(self._stopping, patience_seconds)
        self._scheduler.shutdown(wait=False)
        return not self._stopping

    @staticmethod
    def _join(leaving: list[SourceRunner | ScheduledPurge], patience_seconds: float) -> None:
        """Wait for what they do to end, and keep those where it did not."""
        deadline = time.monotonic() + patience_seconds
        leaving[:] = [each for each in leaving if not each.join(deadline - time.monotonic())]

    def _fire(self, runner: SourceRunner) -> Callable[[], SweepReport | None]:
        def fire() -> SweepReport | None:
            report = runner.tick()
            if report is not None and runner.delay_seconds < runner.retry_schedule.interval_seconds:
                self._reschedule(runner, runner.delay_seconds)
            return report

        return fire

    def _reschedule(self, runner: SourceRunner, delay: float) -> None:
        with self._changing:
            if self._runners.get(runner.name) is runner:
                self._scheduler.reschedule_job(
                    runner.name, trigger=IntervalTrigger(delay, runner.retry_schedule.interval_seconds)
                )


def _scheduler() -> BackgroundScheduler:
    # The schedule only ever looks at differences; UTC keeps the host's daylight saving out of them.
    return BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(_MOST_THREADS)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )


def _purge_job_id(name: str) -> str:
    """The id of a source's purges in the schedule. No source is called so."""
    return f"{name} purge"
