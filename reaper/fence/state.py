"""The state of a fence in a database, and the statements that change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class FenceState(StrEnum):
    """The state of a fence."""

    ABSENT = "absent"
    INSTALLED = "installed"
    OUTDATED = "outdated"  # made for another profile, by another version, or changed by hand
    DISABLED = "disabled"  # it exists, but does not fire
    FOREIGN = "foreign"  # something with its name that the reaper did not create


class ClientScript(NamedTuple):
    """What the server's own client needs before the statements, after each of them, and after all."""

    before: str
    after_each: str
    after: str

    def render(self, statements: Sequence[str]) -> str:
        """The statements, ready to be pasted into the client."""
        return "\n".join([self.before, *(f"{statement}{self.after_each}" for statement in statements), self.after])


@dataclass(frozen=True, slots=True)
class FenceChange:
    """The statements that change a fence, and the grants that the connected role lacks for them."""

    statements: Sequence[str] = ()
    missing_grants: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """The fence in one database, and the changes that would install or remove it.

    `table` is the jobs table as a statement names it. `switched_off` says what switches the fence on again, line by
    line, where settings of the database, of roles or of the server switch it off.
    """

    state: FenceState
    table: str
    role: str
    install: FenceChange
    remove: FenceChange
    script: ClientScript
    switched_off: Sequence[str] = ()
