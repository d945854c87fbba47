"""Runs the demo from beginning to end."""

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
from reaper.dev.demo.checks import Row, check_all, read_rows
from reaper.dev.demo.log_reader import DaemonLogReader
from reaper.dev.demo.processes import DemoError, DemoProcesses, run_processes
from reaper.dev.demo.scenarios import DEADLINE, INTERVAL, STALL, TIMEOUT
from reaper.dev.postgres import libpq, temporary

_FRAME_SECONDS = 0.5


def run(*, plain: bool) -> int:
    """Run the demo, for about a minute. Returns 0 when every job ended as it must, 1 otherwise, 130 after Ctrl-C.

    `plain` writes lines even on a terminal. Raises EmbeddedError or DemoError when the demo cannot run.
    """
    console = Console()
    still = plain or not console.is_terminal
    if still:
        console = Console(no_color=True)
    _introduce(console)
    try:
        with (
            StopSignal() as stop,
            tempfile.TemporaryDirectory(prefix="reaper-demo-") as folder,
            temporary() as server,
        ):
            url = server.create_database("demo")
            with (
                psycopg.connect(libpq(url), autocommit=True) as connection,
                run_processes(url, Path(folder)) as opened,
                (display.plain_lines if still else display.live_table)(console) as show,
            ):
                rows, spared = _run_scenarios(console, opened, connection, show, stop)
    except KeyboardInterrupt:
        console.print("Stopped; every process of the demo has ended.")
        return 130
    judgements = check_all(rows, spared)
    display.print_summary(console, judgements, plain=still)
    return 0 if all(judgement.correct for judgement in judgements) else 1


def _introduce(console: Console) -> None:
    console.print(
        "A private PostgreSQL, worker processes, and the daemon beside them. "
        f"A job is stale when it is older than {TIMEOUT} s (timeout) and silent for longer than {STALL} s (stall); "
        f"a sweep every {INTERVAL} s. About a minute.",
        highlight=False,
        soft_wrap=True,
    )


def _run_scenarios(
    console: Console,
    opened: DemoProcesses,
    connection: psycopg.Connection[Any],
    show: display.Show,
    stop: StopSignal,
) -> tuple[dict[str, Row], dict[str, str]]:
    """Run until every worker and job has ended. Returns the jobs, and why the daemon spared some, by scenario."""
    daemon_log = DaemonLogReader(opened)
    announced = None
    while True:
        stop.check()
        if announced != opened.address:
            announced = opened.address
            console.print(f"Its page, while it runs: {announced}", highlight=False, soft_wrap=True)
        rows = read_rows(connection)
        opened.advance({name: row.age or 0.0 for name, row in rows.items()})
        show(opened, rows, daemon_log.new_lines())
        if all(actor.finished for actor in opened.workers) and all(row.finished for row in rows.values()):
            return rows, daemon_log.spared
        if opened.seconds > DEADLINE:
            raise DemoError(f"after {DEADLINE} s some jobs have not ended: {_unfinished(rows)}")
        time.sleep(_FRAME_SECONDS)


def _unfinished(rows: dict[str, Row]) -> str:
    return ", ".join(row.part for row in rows.values() if not row.finished)


class StopSignal:
    """In this block SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that the demo cleans up."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Called once a frame: an exception that was raised inside a destructor or a callback is lost."""
        if self._asked:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt
