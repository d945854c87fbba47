"""What stands in a database where a fence may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How a fence stands."""

    ABSENT = "absent"
    INSTALLED = "installed"
    OUTDATED = "outdated"  # of another definition, of another version, or changed by hand
    DISABLED = "disabled"  # it is there, and does not fire
    FOREIGN = "foreign"  # something of its name that the reaper has not made


class Script(NamedTuple):
    """What the server's own client wants to read before the statements, after each, and after all of them."""

    before: str
    after_each: str
    after: str

    def written(self, statements: Sequence[str]) -> str:
        """Fit to be pasted there."""
        return "\n".join([self.before, *(f"{statement}{self.after_each}" for statement in statements), self.after])


@dataclass(frozen=True, slots=True)
class FenceChange:
    """Statements that change how a fence stands, and those that give the connected role the privileges it lacks."""

    statements: Sequence[str] = ()
    lacking: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """A fence in one database, and what would put it there or take it away.

    `table` is the jobs' table as a statement names it.
    """

    state: State
    table: str
    role: str
    install: FenceChange
    remove: FenceChange
    script: Script
