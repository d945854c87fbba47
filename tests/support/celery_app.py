"""The Celery application whose workers the tests start, starve, stop and kill."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.worker.control import inspect_command

app = Celery("chores", broker=os.environ["CHORES_BROKER"])
app.conf.update(worker_prefetch_multiplier=int(os.environ.get("CHORES_PREFETCH", "4")), broker_connection_retry=True)


@app.task(name="chores.linger")
def linger(track: str) -> None:
    """Write the process id to `track`, and work until the process is killed or `track`.done appears."""
    Path(track).write_text(str(os.getpid()))
    while not Path(f"{track}.done").exists():
        time.sleep(0.05)


@app.task(name="chores.linger_late", acks_late=True, reject_on_worker_lost=False)
def linger_late(track: str) -> None:
    """The same, acknowledged only at its end."""
    linger(track)


@app.task(name="chores.nothing")
def nothing() -> None:
    """Does it."""


if muted := os.environ.get("CHORES_MUTE"):

    @inspect_command(name=muted)
    def mute(state: Any, **_arguments: Any) -> Any:
        raise RuntimeError("this worker does not tell")
