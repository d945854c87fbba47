"""pgqueuer in its own environment: `drive_pgqueuer.py URL install | enqueue NAME | work NAME | state ID`.

Each job has an entrypoint of its own, and a worker serves one.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import psycopg
from job_body import work_async
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job

HEARTBEAT_TIMEOUT = timedelta(seconds=2)
"""A worker writes a heartbeat twice in that time."""


async def main(url: str, command: str, *words: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        driver = PsycopgDriver(connection)
        queries = Queries(driver)
        if command == "install":
            await queries.install()
        elif command == "enqueue":
            [job] = await queries.enqueue(words[0], None)
            print(job)
        elif command == "work":
            pgq = PgQueuer(driver)

            @pgq.entrypoint(words[0])
            async def run(job: Job) -> None:
                await work_async(job.entrypoint)

            await pgq.qm.run(dequeue_timeout=timedelta(seconds=0.2), heartbeat_timeout=HEARTBEAT_TIMEOUT)
        else:
            [(_, status)] = await queries.job_status([int(words[0])])
            print(status)


asyncio.run(main(*sys.argv[1:]))
