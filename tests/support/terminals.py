"""A person at a terminal, who answers what a command asks."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.commands import Reaper, environment
from tests.support.programs import Process, start
from tests.support.waiting import wait_until


@contextmanager
def _at_terminal(reaper: Reaper, *arguments: str) -> Iterator[tuple[Process, Callable[[bytes], int]]]:
    """A command at a terminal, and what types there."""
    ours, theirs = pty.openpty()
    with start(
        "reaper",
        *arguments,
        environment=environment(reaper.given),
        folder=reaper.folder,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        warnings_are_errors=True,
    ) as process:
        os.close(theirs)
        try:
            yield process, lambda keys: os.write(ours, keys)
        finally:
            process.kill()
            os.close(ours)


def typed(reaper: Reaper, text: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command at whose terminal this is typed."""
    with _at_terminal(reaper, *arguments) as (process, write):
        write(text.encode())
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@contextmanager
def asked(reaper: Reaper, question: str, *arguments: str) -> Iterator[tuple[Process, Callable[[bytes], int]]]:
    """A command that asks this at its terminal and waits: the process, and what types an answer."""
    with _at_terminal(reaper, *arguments) as (process, write):
        assert process.stderr is not None
        read = ""
        while question not in read:
            read += process.stderr.read(1)
        yield process, write


def interrupted(reaper: Reaper, question: str, *arguments: str, key: bytes = b"\x03") -> tuple[int, str]:
    """Exit status and stderr of a command at whose terminal this key is pressed (Ctrl-C) when it asks the question."""
    ours, theirs = pty.openpty()
    log = reaper.folder / "stderr"
    with (
        log.open("wb") as errors,
        start(
            "reaper",
            *arguments,
            environment=environment(reaper.given),
            folder=reaper.folder,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            warnings_are_errors=True,
            new_session=True,
            controlling_terminal=True,
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
