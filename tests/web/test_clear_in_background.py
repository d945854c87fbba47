"""Clearings in the background of requests."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from reaper.scheduling.scheduler import Supervisor
from reaper.web import AdminService, History, Status
from reaper.web.clear_in_background import ClearTasks, Stage
from reaper.web.guard.tokens import Caller
from tests.support.waiting import wait_until

OPERATOR = Caller("alice", "127.0.0.1:5")


def test_clearing_that_cannot_start_has_failed_and_does_not_block_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    clearings = ClearTasks(AdminService(Supervisor(), Status(), history))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(threading.Thread, "start", refuse)
        failed = clearings.submit(3.0, OPERATOR, dry_run=False)
    assert (failed.status, failed.error) == (Stage.FAILED, "no thread can be started: can't start new thread")
    assert [line["log_level"] for line in logs] == ["error"]
    assert [change.result for change in (noted.change for noted in history.changes(1))] == [f"failed: {failed.error}"]
    done = clearings.submit(3.0, OPERATOR, dry_run=False)
    wait_until(lambda: clearings.get(done.id).status is Stage.DONE, "the clear is done")
