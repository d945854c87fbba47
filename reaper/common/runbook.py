"""The runbook that is installed with the program: one entry for each alert, and one for each symptom."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from reaper.common.shipped_files import shipped_root
from reaper.common.suggestions import did_you_mean
from reaper.errors import ReaperError

PLACE = "docs/runbook.md"
_HEADING = "## "


class NoSuchEntry(ReaperError):
    """The runbook has no entry of that name."""


@cache
def text() -> str:
    """All of it, in Markdown. Raises ReaperError where this installation lacks it."""
    try:
        return (shipped_root() / PLACE).read_text(encoding="utf-8")
    except OSError as error:
        raise ReaperError(f"this installation lacks {PLACE}: {error.strerror or error}") from error


@cache
def entries() -> Mapping[str, str]:
    """By its heading, the text of each entry with its heading. Raises ReaperError as `text` does."""
    parts = text().split(f"\n{_HEADING}")[1:]
    return {part.partition("\n")[0].strip(): f"{_HEADING}{part.strip()}\n" for part in parts}


def entry(name: str) -> str:
    """The text of one entry; case does not count. Raises NoSuchEntry with the nearest name, and ReaperError."""
    by_fold = {heading.casefold(): part for heading, part in entries().items()}
    wanted = " ".join(name.split()).casefold()
    if wanted not in by_fold:
        raise NoSuchEntry(f"the runbook has no entry {name!r}{did_you_mean(name, entries())}")
    return by_fold[wanted]
