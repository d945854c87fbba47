"""What a fence keeps, and from whom: read off the profile, in no database's words.

A row was ended by the reaper when it still holds what `fail` wrote: a reason of the reaper's, and what says that the
job does not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from reaper.errors import NotFenceable
from reaper.model import Reason
from reaper.profile import Fence, Profile, Scalar, Variable
from reaper.profile.columns import condition_columns

REASONS = tuple(sorted(reason.value for reason in Reason))


class Null(Enum):
    """What a column holds when it holds no known value."""

    YES = "NULL"
    NO = "NOT NULL"


@dataclass(frozen=True, slots=True)
class Definition:
    """All that the statements are made of. Names are columns of the jobs' own table.

    `ended` is what the row of a reaped job holds beside one of `REASONS` in each column of `reasons`; `kept` is what a
    late worker leaves as it is. A job starts anew with a later start, another claim, or a state among `again`.
    """

    key: tuple[str, ...]
    ended: Mapping[str, Scalar | Null]
    reasons: tuple[str, ...]
    kept: tuple[str, ...]
    started: tuple[str, ...]
    claim: tuple[str, ...]
    state: str | None
    again: tuple[Scalar, ...]


def definition(profile: Profile) -> Definition:
    """Raises NotFenceable, saying why."""
    jobs, assign = profile.jobs, profile.actions["fail"].assign
    fence = profile.fence or Fence()
    if jobs.log is not None:
        raise NotFenceable(f"profile {profile.name!r} cannot be fenced: its jobs are a log, with no row to be kept")
    if assign is None:
        raise NotFenceable(f"profile {profile.name!r} cannot be fenced: actions.fail leaves no row behind")
    reasons = tuple(name for name, value in assign.items() if value == Variable.model_validate({"is": "reason"}))
    if not reasons:
        raise NotFenceable(
            f"profile {profile.name!r} cannot be fenced: actions.fail.set writes the reason into no column "
            '(COLUMN = { is = "reason" }), so a row does not tell that the reaper ended it'
        )
    ended = dict(_ended(profile))
    if not ended:
        raise NotFenceable(
            f"profile {profile.name!r} cannot be fenced: nothing that actions.fail.set writes tells that the job of a "
            "row does not run"
        )
    state = jobs.state if fence.again else None
    for value in fence.again:
        if state is not None and ended.get(state) == value:
            raise NotFenceable(
                f"profile {profile.name!r} cannot be fenced: fence.again names {value!r}, which is what actions.fail "
                "writes"
            )
    return Definition(
        key=jobs.key,
        ended=ended,
        reasons=reasons,
        kept=tuple(assign),
        started=jobs.started,
        claim=jobs.claim,
        state=state,
        again=fence.again,
    )


def _ended(profile: Profile) -> Iterator[tuple[str, Scalar | Null]]:
    """What `fail` writes into the columns that say whether a job runs, as far as it is known beforehand."""
    jobs, assign = profile.jobs, profile.actions["fail"].assign or {}
    telling = {
        *condition_columns(jobs.running.conditions if jobs.running else ()),
        *([jobs.status] if jobs.status else []),
    }
    for name, value in assign.items():
        if name not in telling:
            continue
        if isinstance(value, (bool, int, float, str)):
            yield name, value
        elif isinstance(value, Variable) and value.name != "reason":
            yield name, Null.YES if value.name == "null" else Null.NO
