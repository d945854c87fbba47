"""Which source an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from reaper.model import DatabaseAway, ReaperError
from reaper.source import Source, Trouble, in_one_line, trouble


@contextmanager
def named(source: Source) -> Iterator[None]:
    """Whatever the database says against it becomes one line that names the source."""
    try:
        yield
    except DBAPIError as error:
        line = f"source {source.name}: {in_one_line(error)}"
        if trouble(error) is Trouble.AWAY:
            raise DatabaseAway(line) from None
        hint = "; `reaper check` tells what is missing" if trouble(error) is Trouble.STATEMENT else ""
        raise ReaperError(f"{line}{hint}") from None
    except ReaperError as error:
        raise type(error)(f"source {source.name}: {error}") from None
