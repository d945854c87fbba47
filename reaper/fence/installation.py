"""Installing and removing a fence: the plan is shown first, and then exactly that plan is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.database.errors import is_lock_timeout
from reaper.errors import ReaperError
from reaper.fence import FenceChange, FenceState, FenceStatus, NotFenceable, fence_backend
from reaper.fence.definition import fence_definition
from reaper.source import Source

__all__ = [
    "FenceAction",
    "FencePlan",
    "FenceState",
    "FenceStatus",
    "NotFenceable",
    "apply_plan",
    "fence_status",
    "plan_change",
]


class FenceAction(StrEnum):
    """What to do with a fence."""

    INSTALL = "install"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class FencePlan:
    """The fence as it is, and the change to make, which is empty if there is nothing to do.

    `notes` are for the person who decides.
    """

    before: FenceStatus
    change: FenceChange
    notes: Sequence[str] = ()

    @property
    def script(self) -> str:
        """The statements, ready to be pasted into the server's own client."""
        return self.before.script.render(self.change.statements)


def fence_status(source: Source) -> FenceStatus:
    """The fence of a source.

    Raises:
        NotFenceable: the profile cannot have a fence.
        ReaperError: the table cannot have one, or the role may not see it.
        DatabaseUnavailable, DBAPIError: the database does not answer, or refuses.
    """
    fence_definition(source.profile)  # refused before the database is asked
    with source.connect() as connection, source.transaction(connection, read_only=True):
        return fence_backend(source).status(connection)


def plan_change(source: Source, action: FenceAction) -> FencePlan:
    """Raises what `fence_status` raises, and ReaperError if something else has the fence's name.

    A fence is installed only where running jobs have keys of their own, else KeyNotUnique is raised.
    """
    status = fence_status(source)
    if status.state is FenceState.FOREIGN:
        foreign = "has a trigger or function with the fence's name that the reaper did not create"
        raise ReaperError(f"{status.table} {foreign}")
    if action is FenceAction.REMOVE:
        return FencePlan(status, FenceChange() if status.state is FenceState.ABSENT else status.remove)
    with source.connect() as connection:
        source.require_unique_key(connection)
    change = FenceChange() if status.state is FenceState.INSTALLED else status.install
    return FencePlan(status, change, [*_notes(source), *_switched_off_notes(status)])


def _notes(source: Source) -> Iterator[str]:
    profile, action = source.profile, source.options.action
    if all(branch is not profile.actions["fail"] for _, branch in profile.branches(action)):
        yield f"this source ends stale jobs by the action {action!r}; a fence protects only jobs ended by 'fail'"


def _switched_off_notes(status: FenceStatus) -> Iterator[str]:
    if status.switched_off:
        yield f"the trigger is right, but the fence is switched off; {'; '.join(status.switched_off)}"


def apply_plan(source: Source, plan: FencePlan) -> FenceStatus:
    """Runs the plan in one transaction, and reads the fence again.

    Raises:
        ReaperError: a privilege is missing, or a long transaction uses the table.
        DatabaseUnavailable, DBAPIError: the database does not answer, or refuses.
    """
    if grants := plan.change.missing_grants:
        raise ReaperError(f"the role {plan.before.role!r} may not do that; it needs: {'; '.join(grants)}")
    try:
        with source.connect() as connection, source.transaction(connection):
            read_server_clock(connection)
            for statement in plan.change.statements:
                # Without parameters, since names may contain percent signs.
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    except DBAPIError as error:
        if is_lock_timeout(error):
            raise ReaperError(
                f"{plan.before.table} is in use by a long transaction; nothing was changed, so try again later"
            ) from None
        raise
    return fence_status(source)
