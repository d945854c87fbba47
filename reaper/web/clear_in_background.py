"""Clearings in the background of requests: they may take longer than a client waits."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from reaper.errors import HaltInForce, ReaperError, SourceBusy
from reaper.model import AuditRecord, SweepReport
from reaper.operations.guards import NO_PASSES, GuardPasses
from reaper.web.guard.tokens import Caller
from reaper.web.service import AdminService

_REMEMBERED = 20
_log = structlog.get_logger("reaper")


class Stage(StrEnum):
    """The progress of a clearing."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class NoSuchTask(ReaperError):
    """No clearing with that id is remembered."""


@dataclass(slots=True)
class BackgroundClear:
    """One clearing. It has the reports of the sources that are done. Its end is `audited`, unless it only reads."""

    id: str
    hours: float
    dry_run: bool
    who: Caller
    passes: GuardPasses = NO_PASSES
    audited: bool = True
    status: Stage = Stage.SUBMITTED
    reports: list[SweepReport] = field(default_factory=list)
    error: str | None = None

    def record(self) -> AuditRecord:
        """The audit record of its end."""
        reaped = sum(report.reaped for report in self.reports)
        result = f"failed: {self.error}" if self.error else f"done: reaped {reaped}"
        details = {"task_id": self.id, "max_age_hours": self.hours, "dry_run": self.dry_run}
        return AuditRecord(self.who.name, self.who.remote, "clear", "all sources", result, details)


class ClearTasks:
    """The last clearings and the last dry runs, of each of which one at most is working. Thread-safe.

    Anyone may ask for a dry run: it keeps no clearing waiting, and takes no clearing's place.
    """

    def __init__(self, service: AdminService) -> None:
        self._service, self._lock = service, threading.Lock()
        self._tasks: OrderedDict[str, BackgroundClear] = OrderedDict()

    def submit(
        self,
        hours: float,
        who: Caller,
        *,
        dry_run: bool,
        passes: GuardPasses = NO_PASSES,
        audited: bool = True,
    ) -> BackgroundClear:
        """Start one; it is FAILED already when it cannot start.

        Raises SourceBusy while another one works, HaltInForce.
        """
        if not dry_run:
            self._service.actions.require_not_halted(passes)
        with self._lock:
            alike = [task for task in self._tasks.values() if task.dry_run == dry_run]
            if alike and alike[-1].status in (Stage.SUBMITTED, Stage.RUNNING):
                what = "dry run" if dry_run else "clearing"
                raise SourceBusy(f"{what} {alike[-1].id} still works; try again when it is done")
            task = BackgroundClear(uuid.uuid4().hex[:12], hours, dry_run, who, passes, audited)
            self._tasks[task.id] = task
            for old in alike[: len(alike) + 1 - _REMEMBERED]:
                del self._tasks[old.id]
        # A daemon thread: at the daemon's end only the sweep that works is waited for.
        thread = threading.Thread(target=self._work, args=[task], name="clearing", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            _log.exception("Reaper cannot clear jobs: no thread can be started.")
            task.error, task.status = f"no thread can be started: {error}", Stage.FAILED
            self._record(task)
        return task

    def get(self, task_id: str) -> BackgroundClear:
        """Raises NoSuchTask."""
        with self._lock:
            try:
                return self._tasks[task_id]
            except KeyError:
                raise NoSuchTask(f"there is no task {task_id!r}; the last {_REMEMBERED} are remembered") from None

    def _work(self, task: BackgroundClear) -> None:
        task.status = Stage.RUNNING
        try:
            for report in self._service.actions.clear(
                task.hours, dry_run=task.dry_run, who=task.who, passes=task.passes
            ):
                task.reports.append(report)
            errors = [f"source {report.source}: {report.error}" for report in task.reports if report.error]
            if errors and len(errors) == len(task.reports):
                task.error = "; ".join(errors)
        except HaltInForce as halted:  # since it was submitted
            task.error = str(halted)
        except Exception as defect:  # noqa: BLE001  the client that waits for the task learns of it
            _log.exception("Reaper met a defect while it cleared jobs.")
            task.error = f"a defect in the reaper: {type(defect).__name__}"
        task.status = Stage.FAILED if task.error else Stage.DONE
        self._record(task)

    def _record(self, task: BackgroundClear) -> None:
        if task.audited:
            self._service.record(task.record())
