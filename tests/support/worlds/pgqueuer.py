"""pgqueuer: a heartbeat in the row of each job."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.worlds.database import Session
from tests.support.worlds.world import State, World, all_or_none


class PgqueuerWorld(World):
    profile = script = "pgqueuer"
    public = True
    tables = ("pgqueuer", "pgqueuer_log")
    writes = (("pgqueuer", "UPDATE"), ("pgqueuer_log", "INSERT"))
    start_optional = False
    has_audit = True
    keeps_finished = False
    state_after: ClassVar[str] = "failed"

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        ago = self.database.ago
        return str(
            self.session.one(
                "INSERT INTO pgqueuer (priority, status, entrypoint, queue_manager_id, updated, heartbeat)"
                f" VALUES (0, 'picked', 'mail', gen_random_uuid(), {ago}, {ago}) RETURNING id",
                age,
                age if sign is None else sign,
            )
        )

    def sign_of_life(self, job: str, session: Session) -> bool:
        return bool(session.do("UPDATE pgqueuer SET heartbeat = now() WHERE id = %s AND status = 'picked'", job))

    def finish(self, job: str, session: Session) -> bool:
        """pgqueuer's own worker asks neither for the status nor for who has the job; this one asks for the status."""
        done = session.do("DELETE FROM pgqueuer WHERE id = %s AND status = 'picked'", job)
        if done:
            session.do(
                "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint) VALUES (%s, 'successful', 0, 'mail')",
                job,
            )
        return bool(done)

    def state(self, job: str) -> State:
        rows = self.session.ask("SELECT status::text, queue_manager_id IS NULL FROM pgqueuer WHERE id = %s", job)
        if not rows:
            return State.FINISHED
        [(status, released)] = rows
        facts = [status == self.state_after, released, bool(self._log(job))]
        return State.REAPED if all_or_none(job, facts) else State.RUNNING

    def message(self, job: str) -> str:
        [record] = self._log(job)
        return str(record["exception_message"])

    def audit(self, job: str) -> list[dict[str, Any]]:
        return [record["additional_context"] for record in self._log(job)]

    def _log(self, job: str) -> list[dict[str, Any]]:
        """The tracebacks in the job's log entries for this end."""
        rows = self.session.ask(
            "SELECT traceback FROM pgqueuer_log WHERE job_id = %s AND status::text = %s", job, self.state_after
        )
        return [traceback for (traceback,) in rows]


class PgqueuerRequeueWorld(PgqueuerWorld):
    action = "requeue"
    state_after = "queued"
