"""How long `reaper --help` takes."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmark.daemon import PROJECT
from benchmark.report import Figure, Measured, format_value, timed
from benchmark.sizes import Sizes
from reaper.dev.postgres import PrivatePostgreSQL

_RUNS = 7


def measure(_server: PrivatePostgreSQL, _sizes: Sizes) -> Measured:
    _run_help()
    durations = [timed(_run_help) for _ in range(_RUNS)]
    figure = Figure(
        "help.duration",
        "`reaper --help`",
        median(durations),
        "s",
        bound=0.3,
        note=f"{_RUNS} runs, {format_value(min(durations), 's')} to {format_value(max(durations), 's')}",
    )
    return Measured([figure], {"seconds": durations})


def _run_help() -> None:
    command = [sys.executable, "-m", "reaper", "--help"]
    subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
