"""chancy in its own environment: `drive_chancy.py URL install | enqueue NAME | work NAME | state ID`.

Each job has a queue of its own, and a worker serves one. The plugin Recovery is off: it would find the job first.
"""

from __future__ import annotations

import asyncio
import sys

from chancy import Chancy, Queue, Reference, Worker, job
from job_body import work_async

HEARTBEAT_SECONDS = 1


@job()
async def run(*, name: str) -> None:
    await work_async(name)


async def main(url: str, command: str, *words: str) -> None:
    async with Chancy(url, no_default_plugins=True) as chancy:
        if command == "install":
            await chancy.migrate()
        elif command == "enqueue":
            reference = await chancy.push(run.job.with_queue(words[0]).with_kwargs(name=words[0]).with_max_attempts(3))
            print(reference.identifier)
        elif command == "work":
            # Without a tag of its own, each worker would serve every queue.
            tags = {f"serves={words[0]}"}
            executor = Chancy.Executor.Async
            await chancy.declare(Queue(words[0], concurrency=1, tags=tags, executor=executor, polling_interval=1))
            async with Worker(
                chancy, tags=tags, heartbeat_poll_interval=HEARTBEAT_SECONDS, heartbeat_timeout=3
            ) as worker:
                await worker.wait_for_shutdown()
        else:
            found = await chancy.get_job(Reference(words[0]))
            print(found.state.value if found else "gone")


if __name__ == "__main__":  # chancy starts processes that import this module again
    asyncio.run(main(*sys.argv[1:]))
