"""protea: a job table and an event table."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.worlds.database import Session
from tests.support.worlds.world import State, World, all_or_none


class ProteaWorld(World):
    """The tables of protea's documents: states in lower case, and a default for every column that needs one."""

    profile = script = "protea"
    running, succeeded, failed = "running", "succeeded", "failed"
    new_job = (
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " VALUES ('embed', 'q', 'running', {ago}, {ago}) RETURNING id"
    )
    new_event = "INSERT INTO job_event (job_id, event, ts) VALUES (%s, 'progress', {ago})"
    tables = ("job", "job_event")
    writes = (("job", "UPDATE"), ("job_event", "INSERT"))
    has_audit = True
    servers: ClassVar[tuple[str, ...]] = ("postgresql", "mariadb")

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        job = self.session.one(self.new_job.format(ago=self.database.ago), age, age if start else None)
        if sign is not None:
            self.session.do(self.new_event.format(ago=self.database.ago), job, sign)
        return str(job)

    def sign_of_life(self, job: str, session: Session) -> bool:
        return session.do_unless_refused(self.new_event.format(ago=self.database.ago), job, 0)

    def finish(self, job: str, session: Session) -> bool:
        return bool(
            session.do(
                f"UPDATE job SET status = '{self.succeeded}', finished_at = now()"
                f" WHERE id = %s AND status = '{self.running}'",
                job,
            )
        )

    def state(self, job: str) -> State:
        [(status, finished, code)] = self.session.ask(
            "SELECT status, finished_at IS NOT NULL, error_code FROM job WHERE id = %s", job
        )
        failed = status == self.failed
        if all_or_none(job, [failed, failed and finished, code == "JobTimeout", len(self.audit(job)) == 1]):
            return State.REAPED
        return State.FINISHED if status == self.succeeded else State.RUNNING

    def message(self, job: str) -> str:
        return str(self.session.one("SELECT error_message FROM job WHERE id = %s", job))

    def audit(self, job: str) -> list[dict[str, Any]]:
        rows = self.session.ask("SELECT fields FROM job_event WHERE job_id = %s AND event = 'job.timeout'", job)
        return [self.database.document(fields) for (fields,) in rows]


class ProteaTodayWorld(ProteaWorld):
    """The tables that PROTEA's migrations make today, with the shipped profile."""

    tables_of = "protea-2026-11"
    servers = ("postgresql",)
    running, succeeded, failed = "RUNNING", "SUCCEEDED", "FAILED"
    new_job = (
        "INSERT INTO job (id, operation, queue_name, status, payload, meta, created_at, started_at)"
        " VALUES (gen_random_uuid(), 'embed', 'q', 'RUNNING', '{{}}', '{{}}', {ago}, {ago}) RETURNING id"
    )
    new_event = (
        "INSERT INTO job_event (job_id, event, ts, level, fields) VALUES (%s, 'progress', {ago}, 'info', '{{}}')"
    )
