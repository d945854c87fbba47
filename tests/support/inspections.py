"""Inspections of Celery's workers by forked processes: an executed one needs 0.2 s of processor time for its imports.

Everything else is as it is: a process of its own that reads its request, asks the real broker, and is killed at its
deadline.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import programs

_MODULE = "reaper.liveness.inspect"
_execute = subprocess.run


def run(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run`, which forks inspections and executes everything else.

    Raises TimeoutExpired, as that does, when the process has not ended in time and was killed.
    """
    if list(words) != [sys.executable, "-P", "-m", _MODULE]:
        return _execute(words, **options)
    return _fork(options["input"], options["timeout"], options["env"])


def _fork(request: str, timeout: float, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    with programs.start(
        _MODULE,
        # The fork server has imported everything already.
        environment={**environment, "PYTHONPATH": str(programs.PROJECT)},
        folder=Path.cwd(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(request)
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
