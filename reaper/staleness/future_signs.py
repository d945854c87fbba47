"""Signs of life in the future, from a worker whose clock is wrong or from a damaged row: they must not spare a job for
ever, nor may they be ignored, for a live worker may have written them.

A sign that is later than the database's now by more than AHEAD_SECONDS counts from when the reaper first saw it. What a
job has of such signs is its `state`: the newest of them, and how many entries there are. A sweep reads the states of
running jobs now and then; what is remembered is asked for again with the rule, behind the locks. A state that is not
remembered, or no longer the same, counts as a sign of life now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from reaper.model import Key
from reaper.profile import Profile, Witness

AHEAD_SECONDS = 60.0
"""A sign that is further ahead of the database's clock is in the future; less is a difference between clocks."""

SEPARATOR, ENTRIES = "|", ", entries: "
"""In the name that a state is kept by; and in a state, between the newest sign and the number of entries."""


class SeenSign(NamedTuple):
    """The state of a job's signs in the future, and when it was first seen: seconds since 1970, the database's."""

    state: str
    first_seen: float


class SeenStates(Protocol):
    """Keeps what was seen of each job, by database and place. Thread-safe, and never raises: what is lost is new."""

    def known(self, database: str, place: str) -> Mapping[str, SeenSign]:
        """What is kept, by the names of the jobs."""

    def observe(
        self, database: str, place: str, states: Mapping[str, str], now: float, *, complete: bool = False
    ) -> Mapping[str, SeenSign]:
        """Keep these states: those that are new, as first seen now. `complete`: there are no others."""


def name_of(witness: str, key: Key) -> str:
    """What a state is kept by: the witness and the job's key."""
    return SEPARATOR.join((witness, *key))


def is_same(state: str, before: str) -> bool:
    """No sign was added since: the newest is the same, and there are no more entries. With time, they get fewer."""
    (newest, _, entries), (newest_before, _, entries_before) = state.partition(ENTRIES), before.partition(ENTRIES)
    return newest == newest_before and int(entries or 1) <= int(entries_before or 1)


def may_be_ahead(witness: Witness) -> bool:
    """Whether the witness takes moments as others have written them. A deadline is in the future by its nature."""
    return bool(witness.rows or witness.children or witness.column or witness.sql)


def witnesses_ahead(profile: Profile) -> tuple[int, ...]:
    """The numbers of the witnesses of a profile whose signs may be in the future."""
    return tuple(n for n, witness in enumerate(profile.alive) if may_be_ahead(witness))
