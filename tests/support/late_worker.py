"""A worker of protea that writes through an ORM: `python -m tests.support.late_worker URL JOB END`.

It starts the job and prints `begun`. After a line on standard input it sets the status END, without checking that the
job is still its own, and prints `ended`. Like ORMs, it raises an error unless its UPDATE changes one row.
"""

from __future__ import annotations

import sys
from datetime import datetime

from sqlalchemy import BigInteger, Enum, String, Uuid, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

STATES = ("queued", "running", "succeeded", "failed", "cancelled")


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "job"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False).with_variant(String(36), "mysql", "mariadb"), primary_key=True)
    status: Mapped[str] = mapped_column(Enum(*STATES, name="job_status"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress_current: Mapped[int | None] = mapped_column(BigInteger)
    error_code: Mapped[str | None]


def main(url: str, key: str, end: str) -> None:
    with Session(create_engine(url, poolclass=NullPool), expire_on_commit=False) as session:
        job = session.get_one(Job, key)
        job.status, job.started_at = "running", func.now()
        session.commit()
        print("begun", flush=True)
        sys.stdin.readline()
        job.status, job.finished_at, job.progress_current = end, func.now(), 100
        job.error_code = "WorkerError" if end == "failed" else None
        session.commit()
        print("ended", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
