"""Where the tests' files are: in memory where there is room, on the disk elsewhere.

Databases and environments are made by the hundred, and some disks take ten times as long for each. Whoever names a
TMPDIR gets it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30
_PREFIX = "reaper-tests-"


def make() -> Path | None:
    """A folder in memory, from now on that of temporary files; None where there is no room for one."""
    if "TMPDIR" in os.environ or not _is_roomy():
        return None
    _remove_forgotten()
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    folder.mkdir()
    # As /tmp is: servers run as users of their own.
    folder.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def _is_roomy() -> bool:
    try:
        there = os.statvfs(_MEMORY)
    except OSError:
        return False
    room = min(there.f_bavail * there.f_frsize, _memory_left())
    return room >= _ENOUGH and not there.f_flag & os.ST_NOEXEC


def _memory_left() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    left = int(found[1]) << 10 if found else 0
    try:
        return min(left, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return left


def _remove_forgotten() -> None:
    """What a run that was killed could not remove."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX)).exists():
            shutil.rmtree(folder, ignore_errors=True)
