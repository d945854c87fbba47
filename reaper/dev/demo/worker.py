"""One worker process of the demo: `python -m reaper.dev.demo.worker URL JOB ROLE SECONDS`.

It does not know the reaper. It runs plain SQL on the job tables, as a worker of protea would.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import psycopg

BEAT = 2.0
"""Seconds between two signs of life."""


class Worker:
    """A worker and the one job that it has taken."""

    def __init__(self, url: str, job: str, seconds: float) -> None:
        self.job, self.seconds = job, seconds
        self.connection = psycopg.connect(url, autocommit=True, application_name="demo worker")
        self.born = time.monotonic()

    def begin(self) -> None:
        with self.connection.transaction():
            self.connection.execute(
                "UPDATE job SET status = 'running', started_at = now() WHERE id = %s AND status = 'queued'",
                [self.job],
            )
            self.say("job.started")

    def say(self, event: str) -> None:
        self.connection.execute("INSERT INTO job_event (job_id, event) VALUES (%s, %s)", [self.job, event])

    def say_until(self, seconds: float, event: str = "job.progress") -> None:
        """Works until so many seconds after its start, with a sign of life every beat."""
        while (left := self.born + seconds - time.monotonic()) > 0:
            self.say(event)
            time.sleep(min(left, BEAT))

    def be_silent_until(self, seconds: float) -> None:
        time.sleep(max(0.0, self.born + seconds - time.monotonic()))

    def finish(self) -> bool:
        """Ends the job unless the reaper has ended it: False: the worker must discard its result."""
        return self._succeed("WHERE id = %s AND status = 'running'")

    def finish_blindly(self) -> None:
        """What a worker writes that never asks whether the job is still its own."""
        self._succeed("WHERE id = %s")

    def _succeed(self, where: str) -> bool:
        with self.connection.transaction():
            done = self.connection.execute(
                f"UPDATE job SET status = 'succeeded', finished_at = clock_timestamp() {where}",  # noqa: S608
                [self.job],
            )
            self.say("job.finished" if done.rowcount else "job.result_discarded")
        return done.rowcount == 1


def steady(worker: Worker) -> None:
    worker.begin()
    worker.say_until(worker.seconds)
    worker.finish()


def coordinator(worker: Worker) -> None:
    """Says nothing: others work for it."""
    worker.begin()
    worker.be_silent_until(worker.seconds)
    worker.finish()


def batches(worker: Worker) -> None:
    """Has no job of its own, and reports on the coordinator's."""
    worker.say_until(worker.seconds, "child.batch_done")


def one_transaction(worker: Worker) -> None:
    """All of its work, signs of life and end included, is visible only at the end; its row is locked until then."""
    worker.begin()
    with worker.connection.transaction():
        worker.connection.execute("UPDATE job SET progress_current = 1 WHERE id = %s", [worker.job])
        worker.be_silent_until(worker.seconds)
        worker.say("job.progress")
        worker.finish()


def crash(worker: Worker) -> None:
    """Works until it is killed, with a half-done transaction open."""
    worker.begin()
    worker.say_until(worker.seconds)
    with worker.connection.transaction():
        worker.say("job.progress")
        hang_for_ever()


def hang(worker: Worker) -> None:
    worker.begin()
    worker.say_until(worker.seconds)
    hang_for_ever()


def late(worker: Worker) -> None:
    worker.begin()
    worker.be_silent_until(worker.seconds)
    worker.finish()


def late_and_careless(worker: Worker) -> None:
    worker.begin()
    worker.be_silent_until(worker.seconds)
    worker.finish_blindly()


def hang_for_ever() -> None:
    threading.Event().wait()


ROLES: dict[str, Callable[[Worker], None]] = {
    role.__name__: role
    for role in (steady, coordinator, batches, one_transaction, crash, hang, late, late_and_careless)
}


def leave_with_the_demo() -> None:
    """The demo holds the other end of our standard input: when it dies, however, the kernel closes it."""
    os.read(0, 1)
    os._exit(1)


def main(url: str, job: str, role: str, seconds: str) -> None:
    threading.Thread(target=leave_with_the_demo, daemon=True).start()
    ROLES[role](Worker(url, job, float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
