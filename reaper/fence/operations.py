"""A fence put up or taken away by a person: looked at first, and then exactly what was shown is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.errors import ReaperError
from reaper.fence import FenceChange, FenceStatus, NotFenceable, State, fences
from reaper.source import Source
from reaper.source.purge import is_lock_timeout

__all__ = ["FenceAction", "FenceStatus", "NotFenceable", "Plan", "State", "apply", "plan", "standing"]


class FenceAction(StrEnum):
    """What is to become of a fence."""

    INSTALL = "install"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands there, and what is to be done; nothing when it is as it should be. `notes` are for who decides."""

    before: FenceStatus
    change: FenceChange
    notes: Sequence[str] = ()

    @property
    def script(self) -> str:
        """The statements, fit to be pasted into the server's own client."""
        return self.before.script.written(self.change.statements)


def standing(source: Source) -> FenceStatus:
    """How the fence of a source stands. Raises NotFenceable, ReaperError, DatabaseAway and DBAPIError."""
    found = fences(source)
    with source.connect() as connection, source.transaction(connection, read_only=True):
        return found.look(connection)


def plan(source: Source, wish: FenceAction) -> Plan:
    """What would have to be done. Raises as `standing` does, and ReaperError for what the reaper has not made."""
    found = standing(source)
    if found.state is State.FOREIGN:
        raise ReaperError(f"{found.table} has a trigger or function of the fence's name that the reaper has not made")
    if wish is FenceAction.REMOVE:
        return Plan(found, FenceChange() if found.state is State.ABSENT else found.remove)
    return Plan(found, FenceChange() if found.state is State.INSTALLED else found.install, list(_notes(source)))


def _notes(source: Source) -> Iterator[str]:
    profile, action = source.profile, source.options.action
    if all(chosen is not profile.actions["fail"] for _, chosen in profile.branches(action)):
        yield f"stale jobs are ended by the action {action!r} here: a fence keeps those alone that 'fail' has ended"


def apply(source: Source, planned: Plan) -> FenceStatus:
    """Run it, in one transaction, and look again.

    Raises ReaperError when a privilege is missing, or when somebody's transaction on the table does not end in time;
    DatabaseAway and DBAPIError.
    """
    if lacking := planned.change.lacking:
        raise ReaperError(f"the role {planned.before.role!r} may not do that; it needs: {'; '.join(lacking)}")
    try:
        with source.connect() as connection, source.transaction(connection):
            read_server_clock(connection)
            for statement in planned.change.statements:
                # Without parameters, since names may hold percent signs.
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    except DBAPIError as error:
        if is_lock_timeout(error):
            raise ReaperError(
                f"{planned.before.table} is in use by a transaction that does not end; nothing was changed: try again"
            ) from None
        raise
    return standing(source)
