"""The machine, versions and server settings of a benchmark run."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmark.fixtures import MEASURING, connect
from benchmark.report import MIB
from reaper import __version__
from reaper.dev.postgres import PrivatePostgreSQL


def describe_machine() -> dict[str, Any]:
    """Hardware, kernel, and the load average before the run."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": psutil.virtual_memory().total // MIB,
        "kernel": platform.release(),
        "load_average": list(os.getloadavg()),
    }


def versions(server: PrivatePostgreSQL) -> dict[str, str]:
    with connect(server.url) as session:
        row = session.execute("SHOW server_version").fetchone()
        assert row is not None
    return {
        "reaper": __version__,
        "postgresql": str(row[0]).split()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("sqlalchemy", "psycopg")},
    }


def server_settings() -> Mapping[str, str]:
    """The settings of the server during a measurement; all others are PostgreSQL's defaults."""
    return MEASURING
