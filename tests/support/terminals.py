"""A person at a terminal, who answers what a command asks."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios

from tests.support.commands import COMMAND, Reaper, environment
from tests.support.waiting import wait_until


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


def interrupted(reaper: Reaper, question: str, *arguments: str, key: bytes = b"\x03") -> tuple[int, str]:
    """Exit status and stderr of a command at whose terminal this key is pressed (Ctrl-C) when it asks the question."""
    ours, theirs = pty.openpty()
    log = reaper.folder / "stderr"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            (*COMMAND, *arguments),
            env=environment(reaper.given),
            cwd=reaper.folder,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            # Only of the terminal that controls it does a process get the signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        ) as process,
    ):
        os.close(theirs)
        try:
            wait_until(lambda: question in log.read_text(), question, 30)
            os.write(ours, key)
            process.wait(30)
        finally:
            process.kill()
            os.close(ours)
    return process.returncode, log.read_text()
