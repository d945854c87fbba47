"""chancy: jobs that live by the heartbeat of their worker."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.worlds.database import Session
from tests.support.worlds.world import State, World, all_or_none


class ChancyWorld(World):
    profile = script = "chancy"
    public = True
    tables = ("chancy_jobs", "chancy_workers")
    writes = (("chancy_jobs", "UPDATE"),)
    has_audit = True
    signs_wait = False
    state_after: ClassVar[str] = "failed"

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """A job whose worker serves it alone. Without a sign of life the worker's row is gone."""
        ago = self.database.ago
        job = str(
            self.session.one(
                "INSERT INTO chancy_jobs (id, queue, func, state, taken_by, created_at, started_at, claim_id)"
                f" VALUES (gen_random_uuid(), 'q', 'app.mail', 'running', gen_random_uuid(), {ago}, {ago},"
                " gen_random_uuid()) RETURNING id",
                age,
                age if start else None,
            )
        )
        if sign is not None:
            self._heartbeat(job, self.session, sign)
        return job

    def sign_of_life(self, job: str, session: Session) -> bool:
        return self._heartbeat(job, session, 0)

    def finish(self, job: str, session: Session) -> bool:
        """As chancy: only with the claim that the worker got. A job that the reaper ended has none."""
        return bool(
            session.do(
                "UPDATE chancy_jobs SET state = 'succeeded', completed_at = now(), attempts = attempts + 1"
                " WHERE id = %s AND claim_id IS NOT NULL AND state = 'running'",
                job,
            )
        )

    def state(self, job: str) -> State:
        [(state, claimed, attempts, errors)] = self.session.ask(
            "SELECT state, claim_id IS NOT NULL, attempts, errors FROM chancy_jobs WHERE id = %s", job
        )
        if state == "succeeded":
            return State.FINISHED
        facts = [state == self.state_after, not claimed, attempts == 1, len(errors) == 1]
        return State.REAPED if all_or_none(job, facts) else State.RUNNING

    def message(self, job: str) -> str:
        [error] = self._errors(job)
        return str(error["traceback"])

    def audit(self, job: str) -> list[dict[str, Any]]:
        return [error["evidence"] for error in self._errors(job)]

    def _errors(self, job: str) -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = self.session.one("SELECT errors FROM chancy_jobs WHERE id = %s", job)
        return errors

    def _heartbeat(self, job: str, session: Session, age: float) -> bool:
        ago = self.database.ago
        return bool(
            session.do(
                f"INSERT INTO chancy_workers (worker_id, last_seen, expires_at) SELECT taken_by, {ago}, {ago}"
                " FROM chancy_jobs WHERE id = %s AND state = 'running' AND taken_by IS NOT NULL"
                " ON CONFLICT (worker_id) DO UPDATE SET last_seen = excluded.last_seen",
                age,
                age - 90,
                job,
            )
        )


class ChancyRequeueWorld(ChancyWorld):
    action = "requeue"
    state_after = "retrying"
