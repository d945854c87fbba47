"""A finding of `reaper check`, and its level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # sweeps fail, or find no jobs
    WARNING = "warning"  # sweeps work, but slowly, or not for every job
    NOTE = "note"  # for information


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `fix` can be used as it is: a statement, or lines of the configuration file.

    Findings that the same override of the profile fixes have the same `fix`.
    """

    level: Level
    subject: str
    message: str
    fix: str | None = None


def error(subject: str, message: str, fix: str | None = None) -> Finding:
    return Finding(Level.ERROR, subject, message, fix)


def warning(subject: str, message: str, fix: str | None = None) -> Finding:
    return Finding(Level.WARNING, subject, message, fix)


def note(subject: str, message: str, fix: str | None = None) -> Finding:
    return Finding(Level.NOTE, subject, message, fix)
