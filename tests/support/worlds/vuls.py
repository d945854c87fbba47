"""vuls: runs of Celery tasks, and their schedules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count

from reaper.liveness import LivenessReport, TaskRemoval
from reaper.source import SourceOptions
from tests.support.worlds.database import Database, Session
from tests.support.worlds.world import OLD, SILENT, State, World, all_or_none

QUEUE = "celery"


class FakeProbe:
    """A liveness probe whose workers always answer. Tasks in `alive` are with a worker."""

    def __init__(self) -> None:
        self.alive: set[str] = set()

    def ask(self) -> LivenessReport:
        return LivenessReport(alive=frozenset(self.alive), queues=frozenset({QUEUE}))

    def revoke(self, ids: Sequence[str]) -> None:
        self.alive.difference_update(ids)

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        found = self.alive.intersection(ids)
        if not dry_run:
            self.revoke(list(found))
        return TaskRemoval(executing=len(found), workers=1)


class VulsWorld(World):
    profile = script = "vuls"
    servers = ("postgresql", "mariadb")
    tables = ("scheduled_tasks", "task_runs")
    writes = (("task_runs", "UPDATE"),)
    has_signs = False

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._numbers = count()
        self.probe = FakeProbe()

    def prepare(self) -> None:
        self.session.do("INSERT INTO scheduled_tasks (id, name, task_type) VALUES (7, 'nightly', 'scan')")

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """A run; without a start it is pending. Its only sign of life is that a worker has its task."""
        ago, task = self.database.ago, f"task-{next(self._numbers)}"
        if sign is not None and sign < SILENT:
            self.probe.alive.add(task)
        return str(
            self.session.one(
                "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)"
                f" VALUES (%s, %s, %s, {ago}, {ago}) RETURNING id",
                7,
                task,
                "running" if start else "pending",
                age,
                age if start else None,
            )
        )

    def source_options(self) -> SourceOptions:
        return SourceOptions(action=self.action, probe=self.probe, queues=(QUEUE,))

    def sign_of_life(self, job: str, session: Session) -> bool:
        """A worker has taken the task."""
        self.probe.alive.add(session.one("SELECT celery_task_id FROM task_runs WHERE id = %s", job))
        return True

    def finish(self, job: str, session: Session) -> bool:
        return bool(
            session.do(
                "UPDATE task_runs SET status = 'success', completed_at = now(), duration_seconds = 3"
                " WHERE id = %s AND status IN ('pending', 'running')",
                job,
            )
        )

    def state(self, job: str) -> State:
        [(status, completed, duration, message)] = self.session.ask(
            "SELECT status, completed_at IS NOT NULL, duration_seconds, error_message FROM task_runs WHERE id = %s", job
        )
        failed = status == "failed"
        if all_or_none(job, [failed, failed and completed, message is not None]):
            assert abs(duration - OLD) < 60, duration
            return State.REAPED
        return State.FINISHED if status == "success" else State.RUNNING

    def message(self, job: str) -> str:
        return str(self.session.one("SELECT error_message FROM task_runs WHERE id = %s", job))


class VulsScheduleWorld(World):
    """A scheduled task with status `running`, but without a running run."""

    profile, script = "vuls-schedule", "vuls"
    servers = ("postgresql", "mariadb")
    tables = ("scheduled_tasks", "task_runs")
    writes = (("scheduled_tasks", "UPDATE"),)

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._numbers = count()

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        job = str(
            self.session.one(
                "INSERT INTO scheduled_tasks (name, task_type, last_status, last_run_at, created_at)"
                f" VALUES (%s, 'scan', 'running', {self.database.ago}, {self.database.ago}) RETURNING id",
                f"task {next(self._numbers)}",
                age if start else None,
                age,
            )
        )
        if sign is not None:
            self._run(job, self.session, sign)
        return job

    def sign_of_life(self, job: str, session: Session) -> bool:
        """A run of the task has just ended."""
        return self._run(job, session, 0)

    def finish(self, job: str, session: Session) -> bool:
        return bool(
            session.do(
                "UPDATE scheduled_tasks SET last_status = 'success' WHERE id = %s AND last_status = 'running'", job
            )
        )

    def state(self, job: str) -> State:
        [(status, error)] = self.session.ask("SELECT last_status, last_error FROM scheduled_tasks WHERE id = %s", job)
        if all_or_none(job, [status == "failed", error is not None]):
            return State.REAPED
        return State.FINISHED if status == "success" else State.RUNNING

    def message(self, job: str) -> str:
        return str(self.session.one("SELECT last_error FROM scheduled_tasks WHERE id = %s", job))

    def _run(self, job: str, session: Session, age: float) -> bool:
        ago = self.database.ago
        return session.do_unless_refused(
            "INSERT INTO task_runs (scheduled_task_id, status, created_at, started_at, completed_at)"
            f" VALUES (%s, 'success', {ago}, {ago}, {ago})",
            job,
            age,
            age,
            age,
        )
