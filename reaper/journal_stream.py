"""Lines on a stderr that is systemd's journal say how much they matter, as sd-daemon(3) has it: `<3>` is an error."""

from __future__ import annotations

import logging
import os

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
    """By systemd.exec(5): JOURNAL_STREAM names what systemd connected, and whoever inherits it may write elsewhere."""
    if not (stream := os.environ.get("JOURNAL_STREAM")):
        return False
    try:
        found = os.fstat(_STDERR)
    except OSError:  # closed
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"
