"""What an examination says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # sweeps fail, or see nothing
    WARNING = "warning"  # sweeps work, but slowly, or not for every job
    NOTE = "note"  # good to know


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `fix` can be pasted as it stands: a statement, or lines of the configuration.

    Findings that one override of the profile mends together carry the same text.
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
