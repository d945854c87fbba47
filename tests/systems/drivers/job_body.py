"""What every job of these tests does: it writes down that it runs, and works until the test lets it end.

Runs in the environment of the job system. `$RUNS` is the folder that the test and its jobs share: `NAME.runs` has a
line with the process id for each run, `NAME.end` lets the job end, and `NAME.ended` exists once it has.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

POLL_SECONDS = 0.05


def _begin(name: str) -> Path:
    folder = Path(os.environ["RUNS"])
    with (folder / f"{name}.runs").open("a") as runs:
        runs.write(f"{os.getpid()}\n")
    return folder


def work(name: str) -> None:
    folder = _begin(name)
    while not (folder / f"{name}.end").exists():
        time.sleep(POLL_SECONDS)
    (folder / f"{name}.ended").touch()


async def work_async(name: str) -> None:
    folder = _begin(name)
    while not (folder / f"{name}.end").exists():
        await asyncio.sleep(POLL_SECONDS)
    (folder / f"{name}.ended").touch()
