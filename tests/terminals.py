"""A person at a terminal, who answers what a command asks."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.commands import COMMAND, Reaper, environment


def typed(reaper: Reaper, text: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command at whose terminal this is typed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        (*COMMAND, *arguments),
        env=environment(reaper.given),
        cwd=reaper.folder,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        try:
            os.write(ours, text.encode())
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            os.close(ours)
    return process.returncode, output, errors
