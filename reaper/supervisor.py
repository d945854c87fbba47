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

from reaper.halt import Halt, Halted
from reaper.model import SweepReport
from reaper.operations.retention import Retention
from reaper.watch import Watch

_LATE_SECONDS = 5.0
# A source whose database hangs keeps its thread, and with a limit enough of them would keep the others from sweeping.
# The pool makes a thread only when all that it has are at work.
_MOST_THREADS = sys.maxsize


class Regularly(BaseTrigger):  # type: ignore[misc]
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


class Calendar(BaseTrigger):  # type: ignore[misc]
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


class State(StrEnum):
    """What the schedule does."""

    RUNNING = "RUNNING"
    HALTED = "HALTED"
    FINISHED = "FINISHED"


class Supervisor:
    """Fires each watch at its pace. A sweep never overlaps itself; missed ones are made up for by one.

    Purges are fired beside the sweeps, on threads of their own, and do not overlap themselves either. The state may be
    asked for, and changed, from any thread.
    """

    def __init__(self, halt: Halt | None = None) -> None:
        self.halted = halt or Halt()
        self._scheduler = _scheduler()
        self._started = False
        self._changing = threading.RLock()
        self._watches: dict[str, Watch] = {}
        self._retentions: dict[str, tuple[Retention, BaseTrigger]] = {}
        self._leaving: list[Watch | Retention] = []

    @property
    def watches(self) -> Sequence[Watch]:
        return tuple(self._watches.values())

    @property
    def state(self) -> State | None:
        """None when there is nothing to do on schedule, or not yet."""
        if not self._watches or not self._started:
            return None
        if not self._turns:
            return State.FINISHED
        return State.HALTED if self.halted.on else State.RUNNING

    @property
    def _turns(self) -> bool:
        """The schedule's thread lives. An error in the schedule itself ends it, and nobody else would notice."""
        thread = self._scheduler._thread  # None before it has begun; nothing public tells whether it lives
        return self._scheduler.running and thread is not None and thread.is_alive()

    def start(self) -> None:
        with self._changing:
            self._scheduler.start()
            self._started = True

    def halt(self, halted: Halted) -> None:
        """End nothing from now on; what works ends after its batch, and nobody waits for that.

        Raises ReaperError, and goes on, when it is to last and that cannot be kept.
        """
        self.halted.set(halted)

    def restart(self) -> None:
        """Go on after a halt, and with a new schedule after one that has died. Each source is swept at once.

        Raises ReaperError, and stays halted, when a halt that was to last cannot be removed.
        """
        with self._changing:
            was_halted = self.halted.on
            self.halted.clear()
            if self._started and not self._turns:
                self._renew()
            elif was_halted:
                for watch in self._watches.values():
                    self._reschedule(watch, 0)

    def _renew(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        self._scheduler = _scheduler()
        for watch in self._watches.values():
            self._schedule(watch)
        for retention, trigger in self._retentions.values():
            self._schedule_retention(retention, trigger)
        self._scheduler.start()

    def add(self, watch: Watch) -> None:
        """Sweep this source from now on, the first time at once."""
        with self._changing:
            self._watches[watch.name] = watch
            self._schedule(watch)

    def _schedule(self, watch: Watch) -> None:
        self._scheduler.add_job(self._fire(watch), Regularly(0, watch.pace.interval), id=watch.name)

    def add_retention(self, retention: Retention, trigger: BaseTrigger) -> None:
        """Purge this source from now on whenever the trigger says. It goes with its source."""
        with self._changing:
            self._retentions[retention.name] = (retention, trigger)
            self._schedule_retention(retention, trigger)

    def _schedule_retention(self, retention: Retention, trigger: BaseTrigger) -> None:
        self._scheduler.add_job(retention.tick, trigger, id=_purge_of(retention.name))

    def remove(self, names: Iterable[str], patience_seconds: float) -> None:
        """Begin no more sweeps and purges of these sources; those that work end after their batch.

        Waits for that, but not for ever: the same source may be added again at once, for the schedule lets no two of
        one name work at the same time.
        """
        with self._changing:
            for name in list(names):
                watch, purging = self._watches.pop(name), self._retentions.pop(name, None)
                self._scheduler.remove_job(name)
                watch.stop()
                self._leaving.append(watch)
                if purging is not None:
                    self._scheduler.remove_job(_purge_of(name))
                    purging[0].stop()
                    self._leaving.append(purging[0])
        self._finish(self._leaving, patience_seconds)

    def put_right(self) -> None:
        """Reschedule what is late although nothing works: the host's clock was set back under the schedule."""
        with self._changing:
            late = [watch for watch in self._watches.values() if watch.overdue > _LATE_SECONDS]
            for watch in late if self._turns else ():
                self._reschedule(watch, 0)
                if watch.name in self._retentions:
                    job = self._scheduler.get_job(_purge_of(watch.name))
                    job.reschedule(job.trigger)

    def stop(self, patience_seconds: float) -> bool:
        """Let running sweeps and purges finish their batch. False when one did not within `patience_seconds`."""
        with self._changing:
            self._scheduler.pause()
            retentions = (retention for retention, _ in self._retentions.values())
            working: list[Watch | Retention] = [*self._watches.values(), *retentions]
            for each in working:
                each.stop()
            self._leaving += working
        self._finish(self._leaving, patience_seconds)
        self._scheduler.shutdown(wait=False)
        return not self._leaving

    @staticmethod
    def _finish(leaving: list[Watch | Retention], patience_seconds: float) -> None:
        """Wait for what they do to end, and keep those where it did not."""
        deadline = time.monotonic() + patience_seconds
        leaving[:] = [each for each in leaving if not each.finish(deadline - time.monotonic())]

    def _fire(self, watch: Watch) -> Callable[[], SweepReport | None]:
        def fire() -> SweepReport | None:
            report = watch.tick()
            if report is not None and watch.delay < watch.pace.interval:
                self._reschedule(watch, watch.delay)
            return report

        return fire

    def _reschedule(self, watch: Watch, delay: float) -> None:
        with self._changing:
            if self._watches.get(watch.name) is watch:
                self._scheduler.reschedule_job(watch.name, trigger=Regularly(delay, watch.pace.interval))


def _scheduler() -> BackgroundScheduler:
    # The schedule only ever looks at differences; UTC keeps the host's daylight saving out of them.
    return BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(_MOST_THREADS)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )


def _purge_of(name: str) -> str:
    """The id of a source's purges in the schedule. No source is called so."""
    return f"{name} purge"
