"""Lines for a terminal, stderr and systemd's journal: control characters of foreign text are spelled out."""

from __future__ import annotations

import logging
import os

import click


def say(line: str) -> None:
    """Write one line for people to stderr."""
    click.echo(shown(line), err=True)


def warn(problem: str) -> None:
    """One line on stderr that says what is wrong."""
    say(f"reaper: {problem}")


def shown(text: str) -> str:
    """The text with its control characters spelled out (`\\x1b`), so that a terminal does not obey them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def clipped(text: str, most: int) -> str:
    """The text, cut after so many characters: a mark then says how long it was."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_STDERR = 2


def to_stderr(text: str, level: int) -> str:
    """The text as it is to be written to stderr: there the journal takes the level from each line, and removes it."""
    if not _is_journal():
        return text
    priority = next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


def _is_journal() -> bool:
    """By systemd.exec(5): JOURNAL_STREAM names what systemd connected; a child that inherits it may write elsewhere."""
    if not (stream := os.environ.get("JOURNAL_STREAM")):
        return False
    try:
        stderr = os.fstat(_STDERR)
    except OSError:  # closed
        return False
    return stream == f"{stderr.st_dev}:{stderr.st_ino}"
