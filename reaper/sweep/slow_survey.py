"""A survey that takes longer than a statement may: is it deaf time, and what is to be mended?

A server that stood still cancels, when it goes on, the statements that took too long meanwhile: then no worker could be
heard. A survey that is slow by itself, for old statistics or a missing index, is cancelled in each sweep, while the
workers write. If that were deaf time, no job would ever be silent long enough.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import short_message
from reaper.errors import DatabaseUnavailable
from reaper.source import Source
from reaper.sweep.source_state import SourceState

_ON_TIME_SECONDS = 2.0
_FRESH = "the planner's statistics are fresh and no index is missing: raise statement_timeout_seconds"


class SlowSurvey:
    """Watches the survey of one sweep."""

    def __init__(self, source: Source, source_state: SourceState) -> None:
        self._source, self._state = source, source_state
        self._statement_begun: float | None = None
        self._written_before: int | None = None

    def sweep_begins(self, connection: Connection) -> None:
        """Called before the survey. Only after a survey that timed out is there anything to be found out."""
        if self._state.survey_timed_out:
            self._written_before = self._rows_written(connection)

    def statement_begins(self) -> None:
        """Called before each statement of the survey."""
        self._statement_begun = time.monotonic()

    def survey_ends(self) -> None:
        """The survey was complete."""
        self._statement_begun, self._state.survey_timed_out = None, False

    def timed_out(self, message: str) -> tuple[bool, str]:
        """After a statement was cancelled: whether that is deaf time, and the message with what is to be mended.

        It is none where three things show that the server did not stand still: the statement was cancelled on time, it
        is the second one in a row, and meanwhile others have written to the tables with jobs and signs of life.
        """
        begun, limit = self._statement_begun, self._source.timeouts.statement
        if begun is None:
            return True, message
        on_time = time.monotonic() - begun < limit + _ON_TIME_SECONDS
        again, self._state.survey_timed_out = self._state.survey_timed_out, True
        try:
            with self._source.connect() as connection:
                others_wrote = again and self._others_wrote(connection)
                remedies = "; ".join(self._source.what_slows_survey(connection)) or _FRESH
        except (DatabaseUnavailable, DBAPIError) as error:
            others_wrote, remedies = False, f"what slows it could not be read ({short_message(error)})"
        return not (on_time and others_wrote), f"the survey took longer than {limit:g} s ({message}): {remedies}"

    def _others_wrote(self, connection: Connection) -> bool:
        written = self._rows_written(connection)
        return written is not None and self._written_before is not None and written > self._written_before

    def _rows_written(self, connection: Connection) -> int | None:
        try:
            return self._source.rows_written(connection)
        except DBAPIError:
            return None
