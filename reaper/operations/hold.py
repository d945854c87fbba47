"""Holds: an operator says that one job is not ended for a while, whatever its signs of life, and takes that back.

A sweep, and every command that ends jobs, asks for the holds behind the locks on its batch. So between the writing of a
hold and the look that follows it:

- A reaper that asked before the hold was written has the job's row locked until its commit. The look finds either the
  lock, which is reported, or the end of the job.
- A reaper that asks afterwards leaves the job alone.
- A worker finishes the job, or an operator deletes it: the look says so. The hold stays, for a job that runs again
  under the same key.
- A failover loses nothing: holds are in the state directory, not in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from sqlalchemy.exc import DBAPIError

from reaper.common import messages
from reaper.common.suggestions import did_you_mean
from reaper.config import Settings
from reaper.database.connections import read_server_clock
from reaper.errors import DatabaseUnavailable, NoSuchHold, ReaperError
from reaper.memory import JobHoldStore, kept_holds
from reaper.model import JobHold, LockHolder, Verdict
from reaper.operations.explain import explain, locate
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker

_NO_DIRECTORY = (
    "there is no state directory, so neither the daemon nor another command would see the hold: set REAPER_STATE_DIR, "
    "or StateDirectory= in the systemd unit. A daemon without one takes a hold on its page and over HTTP, until it ends"
)


@dataclass(frozen=True, slots=True)
class HoldTaken:
    """A hold, and what the job is just after it was taken: it runs or not, and who has its row locked."""

    hold: JobHold
    runs: bool
    holder: LockHolder | None
    durable: bool = True

    @property
    def notes(self) -> Sequence[str]:
        """What the operator should know beside the hold."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if not self.runs:
            yield "It is not running now. The hold is for a run that begins before it is over."
        elif self.holder is not None:
            yield (
                f"Its row is locked by {messages.describe_holder(self.holder)}. If that is a reaper, which may have "
                "begun before the hold, it can still end the job; look again in a moment."
            )
        if not self.durable:
            yield (
                "There is no state directory: the hold ends with this process, and commands and Celery tasks do not "
                "see it."
            )


def take_hold(
    source: Source,
    downtime: DowntimeTracker,
    store: JobHoldStore,
    job: str,
    seconds: float,
    by: str,
    reason: str,
    *,
    at_most: float = inf,
) -> HoldTaken:
    """Hold a job for so many seconds from now, instead of for as long as it was held before.

    Raises as `explain` does, and StateUnavailable when the hold cannot be kept: then there is none.
    """
    evidence = explain(source, downtime, job, at_most=at_most).evidence
    now = downtime.now
    hold = JobHold(source.name, evidence.key, now + timedelta(seconds=seconds), by, reason)
    store.add(hold, now)
    after = explain(source, downtime, job, at_most=at_most)
    return HoldTaken(hold, after.evidence.verdict is not Verdict.ENDED, after.holder, store.durable)


def take_back(source: Source, store: JobHoldStore, job: str) -> JobHold:
    """Take the hold on a job back. The job itself may be gone.

    Raises NoSuchHold, DatabaseUnavailable, StateUnavailable.
    """
    keys = [hold.key for hold in store.of(source.name).values()]
    key = next((key for key in keys if messages.format_key(key) == job), None)
    if key is None:
        # Perhaps it is written otherwise than its database writes it.
        with suppress(ReaperError, DBAPIError):
            key = locate(source, job)
    removed = None if key is None else store.remove(source.name, key)
    if removed is None:
        hint = did_you_mean(job, [messages.format_key(key) for key in keys])
        raise NoSuchHold(f"no hold on job {job}{hint}")
    return removed


def holds_in_force(sources: Iterable[Source], store: JobHoldStore) -> list[JobHold]:
    """The holds of these sources that are not over, the first to end first.

    Those of a source whose database is away are all listed: it alone knows what time it is. Raises StateUnavailable.
    """
    held = [(source, store.of(source.name)) for source in sources]
    now = {source.name: _now(source) for source, holds in held if holds}
    listed = [hold for _, holds in held for hold in holds.values()]
    in_force = [hold for hold in listed if (at := now[hold.source]) is None or hold.until > at]
    return sorted(in_force, key=lambda hold: hold.until)


def _now(source: Source) -> datetime | None:
    try:
        with source.connect() as connection, source.transaction(connection):
            return read_server_clock(connection).now
    except (DatabaseUnavailable, DBAPIError):
        return None


def shared_holds(settings: Settings) -> JobHoldStore:
    """Where a command takes and gives back holds. Raises ReaperError where no other process would see them."""
    if settings.state_dir is None:
        raise ReaperError(_NO_DIRECTORY)
    if not settings.state_dir.is_dir():
        raise ReaperError(f"{settings.state_dir} is no directory: start the daemon first, which makes it, or make it")
    return kept_holds(settings.state_dir)
