"""The folder for temporary files of the tests: in memory if there is room, otherwise on disk.

The tests make hundreds of databases and environments, and on some disks each takes ten times as long. A TMPDIR in the
environment is used as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_MIN_BYTES = 4 << 30
_PREFIX = "reaper-tests-"


def make() -> Path | None:
    """Make a folder in memory and use it for temporary files from now on. None if there is not enough room."""
    if "TMPDIR" in os.environ or not _has_room():
        return None
    _remove_abandoned()
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    folder.mkdir()
    # The mode of /tmp: servers run as other users.
    folder.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def _has_room() -> bool:
    try:
        stat = os.statvfs(_MEMORY)
    except OSError:
        return False
    free_bytes = min(stat.f_bavail * stat.f_frsize, _available_memory())
    return free_bytes >= _MIN_BYTES and not stat.f_flag & os.ST_NOEXEC


def _available_memory() -> int:
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    left = int(match[1]) << 10 if match else 0
    try:
        return min(left, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return left


def _remove_abandoned() -> None:
    """Remove the folders of runs that were killed."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX)).exists():
            shutil.rmtree(folder, ignore_errors=True)
