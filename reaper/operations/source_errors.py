"""Errors of one source, in one line that names the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify, short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.source import Source


def prefix_errors(source: Source) -> AbstractContextManager[None]:
    """See `named_errors`."""
    return named_errors(source.name)


@contextmanager
def named_errors(source: str) -> Iterator[None]:
    """Raises every DBAPIError and ReaperError of the block as a ReaperError whose text begins with the source.

    A DBAPIError because the database is away becomes DatabaseUnavailable; a ReaperError keeps its class.
    """
    try:
        yield
    except DBAPIError as error:
        line = f"source {source}: {short_message(error)}"
        if classify(error) is ErrorKind.UNAVAILABLE:
            raise DatabaseUnavailable(line) from None
        hint = "; `reaper check` shows what is missing" if classify(error) is ErrorKind.STATEMENT else ""
        raise ReaperError(f"{line}{hint}") from None
    except ReaperError as error:
        raise type(error)(f"source {source}: {error}") from None
