"""noetl: executions that exist only as an event log."""

from __future__ import annotations

from itertools import count, cycle
from typing import Any, ClassVar

from tests.support.worlds.database import Database, Session
from tests.support.worlds.world import OLD, SILENT, PartialTransition, State, World

PARTITIONS = 363837417062400000, 397177100697600000, 1
"""The first execution id of each partition: two quarters, and the default partition."""


class NoetlWorld(World):
    """The tables of noetl's documents: enums, with states in lower case."""

    profile = script = "noetl"
    cancelled = "cancelled"
    tables: ClassVar[tuple[str, ...]] = ("noetl.event",)
    writes: ClassVar[tuple[tuple[str, str], ...]] = (("noetl.event", "INSERT"),)
    start_optional = False
    fenced = False
    has_audit = True

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._job_numbers = count()
        self._partitions = cycle(PARTITIONS)
        self._start_events = cycle(("playbook.initialized", "execution.started"))
        self._other_events = cycle(("step.enter", "workflow.initialized"))
        # noetl's own event ids grow with time and have gaps between them.
        self._event_ids = count(1000, 1000)

    def prepare(self) -> None:
        self.session.do("INSERT INTO noetl.catalog VALUES (5, 'etl/load')")

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        job = str(next(self._partitions) + next(self._job_numbers))
        self.write(job, next(self._start_events), "started", self.session, age)
        if sign is not None:
            self.write(job, "step.enter", "running", self.session, sign)
        return job

    def start_lost_job(self, *, age: float = OLD, sign: float | None = SILENT) -> str:
        """A job of which no entry that starts it was written; its first entry is `age` old, its newest one `sign`."""
        job = str(next(self._partitions) + next(self._job_numbers))
        self.write(job, next(self._other_events), "running", age=age)
        if sign is not None:
            self.write(job, "step.exit", "completed", age=sign)
        return job

    def sign_of_life(self, job: str, session: Session) -> bool:
        self.write(job, "step.exit", "completed", session)
        return True

    def finish(self, job: str, session: Session) -> bool:
        self.write(job, "playbook.completed", "completed", session)
        return True

    def state(self, job: str) -> State:
        ends = self.session.ask(
            "SELECT event_type::text, status::text, catalog_id FROM noetl.event WHERE execution_id = %s"
            " AND event_type IN ('execution.cancelled', 'playbook.completed') ORDER BY event_id",
            job,
        )
        cancelled = [end for end in ends if end[0] == "execution.cancelled"]
        assert cancelled in ([], [("execution.cancelled", self.cancelled, 5)]), cancelled
        if cancelled:
            assert ends[0] == cancelled[0], "the execution was cancelled after it had completed"
            return State.REAPED
        return State.FINISHED if ends else State.RUNNING

    def message(self, job: str) -> str:
        context = self._context(job)
        assert set(context) == {"reason", "message", "auto_cancelled", "cancelled_at", "evidence"}
        assert context["reason"] == "JobTimeout" and context["cancelled_at"] and context["auto_cancelled"] is True
        return str(context["message"])

    def audit(self, job: str) -> list[dict[str, Any]]:
        return [self._context(job)["evidence"]]

    def _context(self, job: str) -> dict[str, Any]:
        context = self.session.one(
            "SELECT context FROM noetl.event WHERE execution_id = %s AND event_type = 'execution.cancelled'", job
        )
        assert isinstance(context, dict)
        return context

    def write(self, job: str, event: str, status: str, session: Session | None = None, age: float = 0) -> None:
        (session or self.session).do(
            "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type, node_name, status, created_at)"
            f" VALUES (%s, 5, %s, %s, 'etl/load', %s, {self.database.naive_ago})",
            job,
            next(self._event_ids),
            event,
            self.spelled(status),
            age,
        )

    def spelled(self, status: str) -> str:
        return status


class NoetlTodayWorld(NoetlWorld):
    """The tables that NoETL's schema makes today, with the shipped profile."""

    tables_of = "noetl-2026-11"
    optional = ("noetl.outbox", "SEQUENCE noetl.outbox_outbox_id_seq")
    tables = ("noetl.event", "noetl.outbox")
    writes = (("noetl.event", "INSERT"), ("noetl.outbox", "INSERT"))
    cancelled = "CANCELLED"

    def spelled(self, status: str) -> str:
        return status.upper()

    def state(self, job: str) -> State:
        state = super().state(job)
        ends = self.session.ask(
            "SELECT event_id, context ->> 'message' FROM noetl.event"
            " WHERE execution_id = %s AND event_type = 'execution.cancelled'",
            job,
        )
        published = self.session.ask(
            "SELECT event_id, payload -> 'meta' ->> 'reason' FROM noetl.outbox WHERE execution_id = %s", job
        )
        if published != ends:
            raise PartialTransition(f"execution {job}: log {ends}, outbox {published}")
        return state
