"""adhese: scheduled jobs with partial results, and the two actions on a hanging one."""

from __future__ import annotations

from typing import ClassVar

from tests.support.worlds.database import Session
from tests.support.worlds.world import State, World, all_or_none

STEP = 120
"""Seconds from one run of a schedule to the next."""
WORKER_DURATION = 777
"""The duration that a worker writes into a partial result (the reaper writes another one)."""


class AdheseWorld(World):
    profile = script = "adhese"
    servers = ("postgresql", "mariadb")
    has_message = False
    tables = ('"SCHEDULED_JOBS"', '"JOB_RESULTS"', '"PARTIAL_JOB_RESULTS"')
    writes: ClassVar[tuple[tuple[str, str], ...]] = (
        ('"SCHEDULED_JOBS"', "UPDATE"),
        ('"JOB_RESULTS"', "UPDATE"),
        ('"PARTIAL_JOB_RESULTS"', "UPDATE"),
    )

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """A hanging result, whose schedule was not moved on. The first of its two partial jobs is completed."""
        ago, session = self.database.naive_ago, self.session
        schedule = session.one(
            f'INSERT INTO "SCHEDULED_JOBS" (scheduled_start, interval_seconds) VALUES ({ago}, {STEP}) RETURNING id', age
        )
        # An earlier completed run. Stepping the schedule must not arrive at its start again.
        session.do(
            'INSERT INTO "JOB_RESULTS" (job_id, scheduled_start, state, start_time, end_time)'
            f" VALUES (%s, {ago}, 'completed', {ago}, {ago})",
            schedule,
            *[age + STEP] * 3,
        )
        job = session.one(
            f'INSERT INTO "JOB_RESULTS" (job_id, scheduled_start, start_time) SELECT id, scheduled_start, {ago}'
            ' FROM "SCHEDULED_JOBS" WHERE id = %s RETURNING id',
            age if start else None,
            schedule,
        )
        ended = sign if sign is not None else age
        session.do(
            'INSERT INTO "PARTIAL_JOB_RESULTS" (job_result_id, state, duration, result_code, start_time, end_time)'
            f" VALUES (%s, 'completed', 9, 'empty', {ago}, {ago})",
            job,
            age,
            ended,
        )
        session.do(f'INSERT INTO "PARTIAL_JOB_RESULTS" (job_result_id, start_time) VALUES (%s, {ago})', job, ended)
        return str(job)

    def sign_of_life(self, job: str, session: Session) -> bool:
        """The running partial job completes; its worker writes no other row."""
        return bool(session.do(self._complete_partial(), 0, job))

    def finish(self, job: str, session: Session) -> bool:
        ago = self.database.naive_ago
        if not session.do(
            f"UPDATE \"JOB_RESULTS\" SET state = 'completed', end_time = {ago} WHERE id = %s AND state = 'running'",
            0,
            job,
        ):
            return False
        session.do(self._complete_partial(), 0, job)
        session.do(
            f'UPDATE "SCHEDULED_JOBS" SET scheduled_start = {ago} WHERE id ='
            ' (SELECT job_id FROM "JOB_RESULTS" WHERE id = %s)',
            -STEP,
            job,
        )
        return True

    def state(self, job: str) -> State:
        partials = self.session.ask(
            'SELECT state, duration, result_code FROM "PARTIAL_JOB_RESULTS" WHERE job_result_id = %s ORDER BY id', job
        )
        assert partials[0] == ("completed", 9, "empty"), "a partial result that was complete has been changed"
        [(completed, start, next_start)] = self.session.ask(
            "SELECT r.state = 'completed' AND r.end_time IS NOT NULL, r.scheduled_start, s.scheduled_start"
            ' FROM "JOB_RESULTS" r JOIN "SCHEDULED_JOBS" s ON s.id = r.job_id WHERE r.id = %s',
            job,
        )
        step = (next_start - start).total_seconds()
        if not all_or_none(job, [completed, step > 0]):
            assert ("completed", 1, "ok") not in partials, "a partial result of a running job was closed"
            return State.RUNNING
        if all(partial == ("completed", WORKER_DURATION, "ok") for partial in partials[1:]):
            return State.FINISHED
        assert set(partials[1:]) == {("completed", 1, "ok")} and step == STEP, (partials, step)
        return State.REAPED

    def _complete_partial(self) -> str:
        """The statement that completes the running partial job. Values: seconds ago, id of the result."""
        return (
            f"UPDATE \"PARTIAL_JOB_RESULTS\" SET state = 'completed', duration = {WORKER_DURATION}, result_code = 'ok',"
            f" end_time = {self.database.naive_ago} WHERE job_result_id = %s AND state = 'running'"
        )


class AdheseDeleteWorld(AdheseWorld):
    """The action `delete`: the database is as it was before the job started."""

    action = "delete"
    writes = (('"PARTIAL_JOB_RESULTS"', "DELETE"), ('"JOB_RESULTS"', "DELETE"))

    def sign_of_life(self, job: str, session: Session) -> bool:
        """The next partial job starts, if its job still runs."""
        return bool(
            session.do(
                'INSERT INTO "PARTIAL_JOB_RESULTS" (job_result_id, start_time)'
                f' SELECT id, {self.database.naive_ago} FROM "JOB_RESULTS"'
                " WHERE id = %s AND state = 'running' FOR UPDATE",
                0,
                job,
            )
        )

    def state(self, job: str) -> State:
        jobs = self.session.one('SELECT count(*) FROM "JOB_RESULTS" WHERE id = %s', job)
        partials = self.session.one('SELECT count(*) FROM "PARTIAL_JOB_RESULTS" WHERE job_result_id = %s', job)
        return State.REAPED if all_or_none(job, [not jobs, not partials]) else super().state(job)


class AdheseScheduleWorld(World):
    """A schedule that is stuck because its next result already exists."""

    profile, script = "adhese-schedule", "adhese"
    tables = AdheseWorld.tables
    writes = (('"SCHEDULED_JOBS"', "UPDATE"),)
    start_optional = False
    servers = AdheseWorld.servers
    has_message = False

    def job(self, *, age: float, sign: float | None, start: bool = True) -> str:
        """A schedule due since `age` seconds, with results for that start and for the one after it."""
        ago, session = self.database.naive_ago, self.session
        job = session.one(
            f'INSERT INTO "SCHEDULED_JOBS" (scheduled_start, interval_seconds) VALUES ({ago}, {STEP}) RETURNING id', age
        )
        for later in (0, STEP):
            session.do(
                'INSERT INTO "JOB_RESULTS" (job_id, scheduled_start, state, start_time, end_time)'
                f" SELECT id, scheduled_start + INTERVAL '{later}' SECOND, 'completed', {ago}, {ago}"
                ' FROM "SCHEDULED_JOBS" WHERE id = %s',
                age,
                age if sign is None else sign,
                job,
            )
        return str(job)

    def sign_of_life(self, job: str, session: Session) -> bool:
        """The result is written just now."""
        return bool(
            session.do(
                f'UPDATE "JOB_RESULTS" SET end_time = {self.database.naive_ago} WHERE job_id = %s AND scheduled_start ='
                ' (SELECT scheduled_start FROM "SCHEDULED_JOBS" WHERE id = %s)',
                0,
                job,
                job,
            )
        )

    def finish(self, job: str, session: Session) -> bool:
        """The scheduler itself moves the schedule on, if it is still stuck."""
        return bool(
            session.do(
                f'UPDATE "SCHEDULED_JOBS" s SET scheduled_start = {self.database.naive_ago} WHERE id = %s AND EXISTS'
                ' (SELECT 1 FROM "JOB_RESULTS" r WHERE r.job_id = s.id AND r.scheduled_start = s.scheduled_start)',
                -STEP,
                job,
            )
        )

    def state(self, job: str) -> State:
        free, first = self.session.ask(
            "SELECT s.scheduled_start > max(r.scheduled_start),"
            f" s.scheduled_start = max(r.scheduled_start) + INTERVAL '{STEP}' SECOND"
            ' FROM "SCHEDULED_JOBS" s JOIN "JOB_RESULTS" r ON r.job_id = s.id WHERE s.id = %s'
            " GROUP BY s.id, s.scheduled_start",
            job,
        )[0]
        if not free:
            return State.RUNNING
        return State.REAPED if first else State.FINISHED
