"""A profile bound to a database: survey, claim, explain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from reaper.hearing import Hearing
from reaper.model import DatabaseAway, Reason, Thresholds
from reaper.profile import Profile
from reaper.rule import Moment, Rule
from reaper.schema import Schema
from reaper.source.claim import Claim, HalfDone, Stamp
from reaper.source.holders import holder_of
from reaper.source.lease import Lease
from reaper.source.reading import Reading
from reaper.source.session import Patience, look, make_engine, transaction
from reaper.source.survey import Candidate, Survey, with_stale
from reaper.source.trouble import Trouble, in_one_line, trouble

__all__ = [
    "Candidate",
    "Claim",
    "HalfDone",
    "Lease",
    "Patience",
    "Reading",
    "Source",
    "Stamp",
    "Survey",
    "Trouble",
    "holder_of",
    "in_one_line",
    "look",
    "trouble",
    "with_stale",
]


class Source:
    """One place where jobs live."""

    def __init__(self, name: str, url: str, profile: Profile, thresholds: Thresholds, patience: Patience) -> None:
        self.name, self.profile, self.thresholds = name, profile, thresholds
        self.engine: Engine = make_engine(url, name, patience)
        self.rule = Rule(Schema(profile), thresholds)
        self.survey = Survey(self.rule)
        self.reading = Reading(self.rule)
        self._patience = patience

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection of its own. Raises DatabaseAway when there is none to be had."""
        try:
            connection = self.engine.connect()
        except DBAPIError as error:
            raise DatabaseAway(in_one_line(error)) from error
        with connection:
            yield connection

    @contextmanager
    def transaction(self, connection: Connection, *, read_only: bool = False) -> Iterator[None]:
        """One short transaction with its time limits set."""
        with transaction(connection, self._patience, read_only=read_only):
            yield

    def meet(self, connection: Connection, hearing: Hearing) -> Moment:
        """Look at the database's clock, tell `hearing`, and fix the moment to judge by.

        Raises DatabaseAway when nothing can be written there now.
        """
        with self.transaction(connection):
            hearing.met(look(connection))
        return Moment.of(hearing, self.thresholds)

    def claim(self, moment: Moment, stamp: Stamp) -> Claim:
        """The statements that end jobs as of this moment; an operator's own decision is not judged."""
        return Claim(self.rule, moment, stamp, judge=stamp.reason is not Reason.MANUAL_TIMEOUT)

    def lease(self, ttl_seconds: float) -> Lease:
        return Lease(self.engine, self.rule.schema, ttl_seconds)
