"""Clearings that somebody asked for, beside the requests: they may take longer than a client waits."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from reaper.errors import ReaperError, SourceBusy
from reaper.model import AuditRecord, SweepReport
from reaper.web.guard.tokens import Caller
from reaper.web.service import AdminService

_REMEMBERED = 20
_log = structlog.get_logger("reaper")


class Stage(StrEnum):
    """How far a clearing has come."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class NoSuchTask(ReaperError):
    """No clearing of that name is remembered."""


@dataclass(slots=True)
class BackgroundClear:
    """One of them. Its reports are those of the sources that it is over with."""

    id: str
    hours: float
    dry_run: bool
    who: Caller
    stage: Stage = Stage.SUBMITTED
    reports: list[SweepReport] = field(default_factory=list)
    error: str | None = None


class ClearTasks:
    """The last ones, of which one works at most. Thread-safe."""

    def __init__(self, service: AdminService) -> None:
        self._service, self._lock = service, threading.Lock()
        self._known: OrderedDict[str, BackgroundClear] = OrderedDict()

    def submit(self, hours: float, who: Caller, *, dry_run: bool) -> BackgroundClear:
        """Begin one; FAILED already when it cannot begin. Raises Busy while another one works."""
        with self._lock:
            last = next(reversed(self._known.values()), None)
            if last is not None and last.stage in (Stage.SUBMITTED, Stage.RUNNING):
                raise SourceBusy(f"clearing {last.id} still works; try again when it is done")
            clearing = BackgroundClear(uuid.uuid4().hex[:12], hours, dry_run, who)
            self._known[clearing.id] = clearing
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        # A daemon's end waits for the sweep that it works on, and for nothing else of it.
        thread = threading.Thread(target=self._work, args=[clearing], name="clearing", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            _log.exception("Reaper cannot clear jobs: no thread begins.")
            clearing.error, clearing.stage = f"no thread begins: {error}", Stage.FAILED
            self._service.changed(_told(clearing))
        return clearing

    def known(self, id_: str) -> BackgroundClear:
        """Raises NoSuchTask."""
        with self._lock:
            try:
                return self._known[id_]
            except KeyError:
                raise NoSuchTask(f"there is no task {id_!r}; the last {_REMEMBERED} are remembered") from None

    def _work(self, clearing: BackgroundClear) -> None:
        clearing.stage = Stage.RUNNING
        try:
            for report in self._service.admin_actions.clear(clearing.hours, dry_run=clearing.dry_run, who=clearing.who):
                clearing.reports.append(report)
            errors = [f"source {report.source}: {report.error}" for report in clearing.reports if report.error]
            if errors and len(errors) == len(clearing.reports):
                clearing.error = "; ".join(errors)
        except Exception as defect:  # noqa: BLE001  whoever waits for the task is to be told
            _log.exception("Reaper met a defect while it cleared jobs.")
            clearing.error = f"a defect in the reaper: {type(defect).__name__}"
        clearing.stage = Stage.FAILED if clearing.error else Stage.DONE
        self._service.changed(_told(clearing))


def _told(clearing: BackgroundClear) -> AuditRecord:
    reaped = sum(report.reaped for report in clearing.reports)
    result = f"failed: {clearing.error}" if clearing.error else f"done: reaped {reaped}"
    details = {"task_id": clearing.id, "max_age_hours": clearing.hours, "dry_run": clearing.dry_run}
    return AuditRecord(clearing.who.name, clearing.who.remote, "clear", "all sources", result, details)
