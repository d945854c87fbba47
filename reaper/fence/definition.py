"""What a fence protects, and from which writes: derived from the profile, the same for every server.

The reaper has ended a row if the row still has what the action `fail` wrote: one of the reaper's reasons, and the value
that says that the job does not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from reaper.errors import NotFenceable
from reaper.model import Reason
from reaper.profile import Fence, Profile, Scalar, Variable
from reaper.profile.columns import condition_columns

REASONS = tuple(sorted(reason.value for reason in Reason))


class NullTest(Enum):
    """How a column is tested whose value is not known in advance."""

    YES = "NULL"
    NO = "NOT NULL"


@dataclass(frozen=True, slots=True)
class FenceDefinition:
    """All that the trigger is made of. Names are columns of the jobs table.

    The row of a reaped job has `ended_values`, and one of `REASONS` in each of `reason_columns`. The trigger keeps
    `kept_columns` as they are when a write is late. A write with a later start, another claim, or one of
    `restart_states` in `state_column` starts the job again; it is not late.
    """

    key: tuple[str, ...]
    ended_values: Mapping[str, Scalar | NullTest]
    reason_columns: tuple[str, ...]
    kept_columns: tuple[str, ...]
    start_columns: tuple[str, ...]
    claim_columns: tuple[str, ...]
    state_column: str | None
    restart_states: tuple[Scalar, ...]


def fence_definition(profile: Profile) -> FenceDefinition:
    """Raises NotFenceable, with the reason."""
    jobs, assign = profile.jobs, profile.actions["fail"].assign
    fence = profile.fence or Fence()
    if jobs.log is not None:
        raise _not_fenceable(profile, "its jobs exist only as a log, so there is no row to keep")
    if assign is None:
        raise _not_fenceable(profile, "actions.fail leaves no row behind")
    reason_columns = tuple(name for name, value in assign.items() if value == Variable.model_validate({"is": "reason"}))
    if not reason_columns:
        raise _not_fenceable(
            profile,
            'actions.fail.set writes the reason into no column (COLUMN = { is = "reason" }), so a row does not show '
            "that the reaper ended it",
        )
    ended_values = dict(_ended_values(profile))
    if not ended_values:
        raise _not_fenceable(profile, "nothing that actions.fail.set writes shows that the job of a row does not run")
    state_column = jobs.state if fence.again else None
    for value in fence.again:
        if state_column is not None and ended_values.get(state_column) == value:
            raise _not_fenceable(profile, f"fence.again names {value!r}, which is what actions.fail writes")
    return FenceDefinition(
        key=jobs.key,
        ended_values=ended_values,
        reason_columns=reason_columns,
        kept_columns=tuple(assign),
        start_columns=_of_own_row(profile, jobs.started),
        claim_columns=_of_own_row(profile, jobs.claim),
        state_column=state_column,
        restart_states=fence.again,
    )


def _of_own_row(profile: Profile, names: Iterable[str]) -> tuple[str, ...]:
    """Without columns of rows beside the job, which a trigger on the job's row does not see change."""
    return tuple(name for name in names if profile.jobs.place_of(name).beside is None)


def _not_fenceable(profile: Profile, reason: str) -> NotFenceable:
    return NotFenceable(f"profile {profile.name!r} cannot be fenced: {reason}")


def _ended_values(profile: Profile) -> Iterator[tuple[str, Scalar | NullTest]]:
    """What `fail` writes into the columns that say whether a job runs, where that is known in advance."""
    jobs, assign = profile.jobs, profile.actions["fail"].assign or {}
    state_columns = {
        *condition_columns(jobs.running.conditions if jobs.running else ()),
        *([jobs.status] if jobs.status else []),
    }
    for name, value in assign.items():
        if name not in state_columns:
            continue
        if isinstance(value, (bool, int, float, str)):
            yield name, value
        elif isinstance(value, Variable) and value.name != "reason":
            yield name, NullTest.YES if value.name == "null" else NullTest.NO
