"""The halt that is in force: who asked for it, and whether the next start of the daemon keeps it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Boolean, Column, Connection, Integer, Table, Text, delete, insert, select

from reaper.common.bounded_file import read_bounded
from reaper.errors import ReaperError, StateUnavailable
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile

LEGACY_FILE = "halted"
"""Where earlier versions kept a persistent halt, in the same directory: JSON with `by` and `reason`."""

_HALT = Table(
    "halt",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("halted_by", Text, nullable=False),
    Column("reason", Text),
    Column("persistent", Boolean, nullable=False),
)
_ONLY_ROW = 1
_UNKNOWN = "unknown: "


@dataclass(frozen=True, slots=True)
class HaltRecord:
    """Who halted the supervisor, and why. `persistent`: it stays halted when the daemon is restarted."""

    by: str
    reason: str | None = None
    persistent: bool = False

    @property
    def is_unknown(self) -> bool:
        """It stands in place of a halt that cannot be read."""
        return self.by.startswith(_UNKNOWN)


class HaltStore:
    """Keeps one halt, or none. What cannot be read counts as a persistent halt."""

    def __init__(self, state_file: StateFile, legacy_path: Path | None = None) -> None:
        self._file, self._legacy_path = state_file, legacy_path

    def load(self) -> HaltRecord | None:
        """The halt that is kept; None when there is none. Never raises StateUnavailable."""
        if self._legacy_path is not None and os.path.lexists(self._legacy_path):
            return self._import(self._legacy_path)
        try:
            return self._file.read(_select, default=None)
        except StateUnavailable as error:
            return unknown_halt(str(error))

    def save(self, record: HaltRecord) -> None:
        """Keep this halt instead of the one before.

        Raises StateUnavailable, also for a persistent halt where there is no state directory.
        """
        if record.persistent and self._file.path is None:
            raise StateUnavailable(
                "there is no state directory; set REAPER_STATE_DIR, or StateDirectory= in the systemd unit"
            )
        self._file.write(lambda connection: _replace(connection, record))

    def clear(self) -> None:
        """Keep no halt. Raises ReaperError when it cannot be removed."""
        self._file.write(lambda connection: _replace(connection, None))
        if self._legacy_path is not None:
            self._remove(self._legacy_path)

    def report_once(self, error: Exception) -> None:
        """Report a failed write that stops nothing."""
        self._file.report_once(error)

    def _import(self, path: Path) -> HaltRecord:
        """Move the halt of an earlier version into the state file. Its file goes when that is done."""
        try:
            document = json.loads(read_bounded(path).content)
            record = HaltRecord(str(document["by"]), document["reason"] and str(document["reason"]), persistent=True)
        except (ValueError, RecursionError, KeyError, TypeError):
            record = unknown_halt(f"{path} cannot be read")
        try:
            self.save(record)
            self._remove(path)
        except ReaperError as error:  # the file stays, and is read again at the next start
            self.report_once(error)
        return record

    @staticmethod
    def _remove(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise StateUnavailable(f"cannot remove {path}: {error.strerror or error}") from error


def save_unknown_halt(connection: Connection, why: str) -> None:
    """Keep a persistent halt in place of one that may have been lost."""
    _replace(connection, unknown_halt(why))


def unknown_halt(why: str) -> HaltRecord:
    """A halt in place of one that cannot be read."""
    return HaltRecord(f"{_UNKNOWN}{why}", persistent=True)


def _select(connection: Connection) -> HaltRecord | None:
    row = connection.execute(select(_HALT.c.halted_by, _HALT.c.reason, _HALT.c.persistent)).one_or_none()
    return None if row is None else HaltRecord(*row)


def _replace(connection: Connection, record: HaltRecord | None) -> None:
    connection.execute(delete(_HALT))
    if record is not None:
        row = {"halted_by": record.by, "reason": record.reason, "persistent": record.persistent}
        connection.execute(insert(_HALT).values(id=_ONLY_ROW, **row))
