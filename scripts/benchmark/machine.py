"""What it was measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmark.figures import MIB
from benchmark.scene import MEASURING, connect
from reaper import __version__
from reaper.dev.postgres import Embedded


def machine() -> dict[str, Any]:
    """The computer, and how busy others kept it when this began."""
    named = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": named[1] if named else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": psutil.virtual_memory().total // MIB,
        "kernel": platform.release(),
        "load_average": list(os.getloadavg()),
    }


def versions(server: Embedded) -> dict[str, str]:
    with connect(server.url) as session:
        found = session.execute("SHOW server_version").fetchone()
        assert found is not None
    return {
        "reaper": __version__,
        "postgresql": str(found[0]).split()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("sqlalchemy", "psycopg")},
    }


def server_settings() -> Mapping[str, str]:
    """What the server is told while it is measured; everything else is PostgreSQL's default."""
    return MEASURING
