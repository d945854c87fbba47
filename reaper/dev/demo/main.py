"""The show from beginning to end."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import psycopg
from rich.console import Console

from reaper.dev.demo import display
from reaper.dev.demo.checks import Row, judge, look
from reaper.dev.demo.daemon_log import Hearsay
from reaper.dev.demo.processes import DemoError, Stage, stage
from reaper.dev.demo.scenarios import INTERVAL, LONGEST, STALL, TIMEOUT
from reaper.dev.postgres import libpq, temporary

_FRAME = 0.5


def run(*, plain: bool) -> int:
    """Plays the demo, about a minute. 0 when every job ended as it had to, 1 otherwise.

    `plain` writes lines even on a terminal. Raises EmbeddedError or DemoError when it cannot be played.
    """
    console = Console()
    still = plain or not console.is_terminal
    if still:
        console = Console(no_color=True)
    _introduce(console)
    try:
        with (
            Stop() as stop,
            tempfile.TemporaryDirectory(prefix="reaper-demo-") as folder,
            temporary() as server,
        ):
            url = server.create_database("demo")
            with (
                psycopg.connect(libpq(url), autocommit=True) as connection,
                stage(url, Path(folder)) as opened,
                (display.lines if still else display.live)(console) as show,
            ):
                rows, spared = _play(opened, connection, show, stop)
    except KeyboardInterrupt:
        console.print("Stopped; every process of the demo has ended.")
        return 130
    judgements = judge(rows, spared)
    display.summary(console, judgements, plain=still)
    return 0 if all(judgement.right for judgement in judgements) else 1


def _introduce(console: Console) -> None:
    console.print(
        "A private PostgreSQL, worker processes, and the daemon beside them. "
        f"A job is stale when it is older than {TIMEOUT} s (timeout) and silent for longer than {STALL} s (stall); "
        f"a sweep every {INTERVAL} s. About a minute.",
        highlight=False,
        soft_wrap=True,
    )


def _play(
    opened: Stage, connection: psycopg.Connection[Any], show: display.Show, stop: Stop
) -> tuple[dict[str, Row], dict[str, str]]:
    """Until everybody has ended. Returns the jobs, and what the daemon said of those that it spared."""
    hearsay = Hearsay(opened)
    while True:
        stop.check()
        rows = look(connection)
        opened.move({name: row.age or 0.0 for name, row in rows.items()})
        show(opened, rows, hearsay.news())
        if all(actor.over for actor in opened.actors) and all(row.over for row in rows.values()):
            return rows, hearsay.spared
        if opened.seconds > LONGEST:
            raise DemoError(f"after {LONGEST} s some jobs have not ended: {_unfinished(rows)}")
        time.sleep(_FRAME)


def _unfinished(rows: dict[str, Row]) -> str:
    return ", ".join(row.part for row in rows.values() if not row.over)


class Stop:
    """Ctrl-C, SIGTERM and SIGHUP end the demo in order: whatever goes on is interrupted."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Once a frame: an interrupt that came inside of a destructor or a callback is lost there."""
        if self._asked:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt
