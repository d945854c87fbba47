"""An APScheduler schedule on a thread of our own, so that it can be asked whether the schedule is still alive."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import UTC

from apscheduler.events import EVENT_SCHEDULER_STARTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger

# A source whose database hangs keeps its thread; with a limit, enough of them would keep the others from sweeping.
# The pool makes a thread only when all that it has are busy.
_MAX_THREADS = sys.maxsize
_START_SECONDS = 10.0


class ScheduleThread:
    """Runs each job at the times of its trigger; a job never overlaps itself, and missed runs are made up for by one.

    Jobs may be added, changed and removed at any time, by any thread.
    """

    def __init__(self) -> None:
        # Only differences between times count; UTC keeps the host's daylight saving out of them.
        self._scheduler = BlockingScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(_MAX_THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._started = threading.Event()
        self._scheduler.add_listener(lambda _: self._started.set(), EVENT_SCHEDULER_STARTED)
        self._thread = threading.Thread(target=self._scheduler.start, name="schedule", daemon=True)

    @property
    def is_alive(self) -> bool:
        """It has been started and not been shut down, and no error in APScheduler has ended its thread."""
        return bool(self._scheduler.running) and self._thread.is_alive()

    def start(self) -> None:
        """Begin. Returns when jobs are being run. Raises RuntimeError when no thread can be started."""
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise RuntimeError(f"the schedule did not start within {_START_SECONDS:g} s")

    def pause(self) -> None:
        """Start no more runs."""
        self._scheduler.pause()

    def shut_down(self) -> None:
        """End the schedule. Does not wait for runs in progress."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def add(self, name: str, run: Callable[[], object], trigger: BaseTrigger) -> None:
        self._scheduler.add_job(run, trigger, id=name)

    def job(self, name: str) -> Job:
        """APScheduler's job of this name, with the time of its next run."""
        return self._scheduler.get_job(name)

    def reschedule(self, name: str, trigger: BaseTrigger | None = None) -> None:
        """Compute the time of the next run again, by another trigger if one is given."""
        job = self.job(name)
        job.reschedule(trigger or job.trigger)

    def remove(self, name: str) -> None:
        self._scheduler.remove_job(name)
