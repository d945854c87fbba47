"""How long somebody waits for `reaper --help`."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmark.daemon import PROJECT
from benchmark.figures import Figure, Measured, shown, timed
from benchmark.sizes import Sizes
from reaper.dev.postgres import Embedded

_RUNS = 7


def measure(_server: Embedded, _sizes: Sizes) -> Measured:
    _help()
    taken = [timed(_help) for _ in range(_RUNS)]
    figure = Figure(
        "help.duration",
        "`reaper --help`",
        median(taken),
        "s",
        bound=0.3,
        note=f"{_RUNS} runs, {shown(min(taken), 's')} to {shown(max(taken), 's')}",
    )
    return Measured([figure], {"seconds": taken})


def _help() -> None:
    words = [sys.executable, "-m", "reaper", "--help"]
    subprocess.run(words, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
