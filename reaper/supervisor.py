"""The schedule of sweeps: APScheduler, one job per source. Holds no logic of its own beyond when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from reaper.model import SweepReport
from reaper.watch import Watch

_LATE_SECONDS = 5.0
_MOST_THREADS = 64


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


class Supervisor:
    """Fires each watch at its pace. A sweep never overlaps itself; missed ones are made up for by one."""

    def __init__(self) -> None:
        # The schedule only ever looks at differences; UTC keeps the host's daylight saving out of them.
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(_MOST_THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._watches: dict[str, Watch] = {}
        self._leaving: list[Watch] = []

    @property
    def watches(self) -> Iterable[Watch]:
        return self._watches.values()

    def start(self) -> None:
        self._scheduler.start()

    def add(self, watch: Watch) -> None:
        """Sweep this source from now on, the first time at once."""
        self._watches[watch.name] = watch
        trigger = Regularly(0, watch.pace.interval)
        self._scheduler.add_job(self._fire(watch), trigger, id=watch.name)

    def remove(self, names: Iterable[str], patience_seconds: float) -> None:
        """Begin no more sweeps of these sources; those that work end after their batch.

        Waits for that, but not for ever: the same source may be added again at once, for the schedule lets no two of
        one name work at the same time.
        """
        gone = [self._watches.pop(name) for name in names]
        for watch in gone:
            self._scheduler.remove_job(watch.name)
            watch.stop()
        self._leaving += gone
        self._finish(self._leaving, patience_seconds)

    def put_right(self) -> None:
        """Reschedule what is late although nothing works: the host's clock was set back under the schedule."""
        for watch in self._watches.values():
            if watch.overdue > _LATE_SECONDS:
                self._reschedule(watch, 0)

    def stop(self, patience_seconds: float) -> bool:
        """Let running sweeps finish their batch. False when one did not within `patience_seconds`."""
        self._scheduler.pause()
        for watch in self._watches.values():
            watch.stop()
        self._leaving += self._watches.values()
        self._finish(self._leaving, patience_seconds)
        self._scheduler.shutdown(wait=False)
        return not self._leaving

    @staticmethod
    def _finish(leaving: list[Watch], patience_seconds: float) -> None:
        """Wait for their sweeps to end, and keep those that did not."""
        deadline = time.monotonic() + patience_seconds
        leaving[:] = [watch for watch in leaving if not watch.finish(deadline - time.monotonic())]

    def _fire(self, watch: Watch) -> Callable[[], SweepReport | None]:
        def fire() -> SweepReport | None:
            report = watch.tick()
            if report is not None and watch.delay < watch.pace.interval:
                self._reschedule(watch, watch.delay)
            return report

        return fire

    def _reschedule(self, watch: Watch, delay: float) -> None:
        if self._watches.get(watch.name) is watch:
            self._scheduler.reschedule_job(watch.name, trigger=Regularly(delay, watch.pace.interval))
