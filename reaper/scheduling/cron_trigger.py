"""The trigger of scheduled purges: the times of a cron expression, in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from reaper.config.cron import next_fire_time

_TICK = timedelta(microseconds=1)


class CronTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires at the times of a cron expression, in UTC. Times that have passed are left out.

    After a jump of the clock, or a run that took longer than its interval, there is one run, not one for each time
    that was missed.
    """

    def __init__(self, cron: str) -> None:
        """`cron` is an expression as `reaper.config.cron.normalise_cron` returns it."""
        self.cron = cron

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time at or after `now`, and after the previous one; None when there is none within 50 years."""
        before_now = now - _TICK
        after = before_now if previous_fire_time is None else max(previous_fire_time, before_now)
        return next_fire_time(self.cron, after)
