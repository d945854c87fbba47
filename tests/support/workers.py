"""Tasks that workers hold, on either server: the workers' own table, and what sweeps have seen of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import update

from reaper.memory.state_file import StateFile
from reaper.memory.worker_states import WorkerStateStore
from reaper.model import Thresholds
from reaper.profile import Profile
from reaper.source import Source, SourceOptions
from tests.support.protea import HOUR, PATIENCE, thresholds
from tests.support.tasks import Tasks, mapped


class Workers:
    """Tasks that workers hold: a task has its worker's host in `note`, and its start in `tries`."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        moment = "datetime(6)" if tasks.mariadb else "timestamptz"
        tasks.session.do(
            f"CREATE TABLE worker (host varchar(3000), epoch integer, pid integer, left_at {moment}, at {moment})"
        )

    def add(self, host: str, epoch: int, *, beat: float | None, pid: int = 7, gone: bool = False) -> None:
        ago = self.tasks.database.ago
        self.tasks.session.do(
            f"INSERT INTO worker VALUES (%s, %s, %s, {ago}, {ago})", host, epoch, pid, 0 if gone else None, beat
        )

    def beat(self, *hosts: str) -> None:
        """These workers write a heartbeat now."""
        for host in hosts:
            self.tasks.session.do(f"UPDATE worker SET at = {self.tasks.database.ago} WHERE host = %s", 0, host)

    def leave(self, host: str) -> None:
        """Its row is deleted."""
        self.tasks.session.do("DELETE FROM worker WHERE host = %s", host)

    def source(
        self, profile: Profile, memory: WorkerStateStore, limits: Thresholds | None = None, **options: Any
    ) -> Source:
        """A source whose sweeps end the jobs of workers that are gone, and look at them in this memory."""
        worker = profile.worker
        assert worker is not None
        lost = SourceOptions(worker_states=memory, gone_after_seconds=worker.gone_after)
        url = self.tasks.database.url
        return Source("main", url, profile, limits or thresholds(), PATIENCE, replace(lost, **options))

    def task(self, number: int, host: str | None, epoch: int | None, *, age: float = 8 * HOUR) -> str:
        return self.tasks.add(number, age=age, beat=None, note=host, tries=epoch)


class WorkerMemory(WorkerStateStore):
    """What sweeps have seen of workers, which a test can make older."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(StateFile(path))

    def age(self, seconds: float) -> None:
        """All that was seen so far was seen that much earlier."""
        earlier = self.table.c.first_seen_epoch - seconds
        self._file.write(lambda connection: connection.execute(update(self.table).values(first_seen_epoch=earlier)))


def held(*, also: Sequence[Mapping[str, Any]] = (), parts: Mapping[str, Any] | None = None, **changes: Any) -> Profile:
    """The profile of tasks with their worker as a witness, and others; `parts` are further ones of the profile."""
    worker = {
        "table": "worker",
        "match": {"host": "note", "epoch": "tries"},
        "at": "at",
        "where": [{"column": "left_at", "is": "null"}],
        **changes,
    }
    return mapped(alive=[{"witness": "worker", "worker": worker}, *also], **(parts or {}))
