"""The condition of a late write as SQL: what both servers' triggers have in common.

The installed trigger is recognised by a hash of this text: a change of a single character makes every installed fence
`outdated`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from reaper.fence.definition import REASONS, FenceDefinition, NullTest
from reaper.profile import Scalar
from reaper.sql.tables import reserved_alias


class LateWrite(ABC):
    """The condition under which an UPDATE of a row is a late write.

    The reaper has ended the row, the write would change what the reaper wrote, and it does not start the job again.
    """

    def __init__(self, definition: FenceDefinition) -> None:
        self._definition = definition

    @abstractmethod
    def name(self, column: str) -> str:
        """The quoted name of a column."""

    @abstractmethod
    def literal(self, value: Scalar) -> str:
        """A value as an SQL literal."""

    @abstractmethod
    def reason(self, column: str) -> str:
        """The old value of a reason column, to be compared with texts."""

    @abstractmethod
    def differ(self, columns: Sequence[str]) -> str:
        """Whether the write changes any of these columns."""

    @abstractmethod
    def claimed(self, column: str) -> str:
        """Whether the write sets a new claim. Clearing the claim does not count: a worker that finishes does that."""

    @property
    @abstractmethod
    def switched_on(self) -> str:
        """Whether the session has not switched the fence off."""

    def condition(self) -> str:
        definition = self._definition
        restarts = "\n            OR ".join(self._restarts())
        parts = [
            *(f"OLD.{self.name(name)} {self._holds(value)}" for name, value in definition.ended_values.items()),
            *(f"{self.reason(name)} IN ({self._list(REASONS)})" for name in definition.reason_columns),
            self.differ(definition.kept_columns),
            f"(\n            {restarts}\n        ) IS NOT TRUE",
            self.switched_on,
        ]
        return "\n        AND ".join(parts)

    def _restarts(self) -> Iterator[str]:
        definition = self._definition
        for column in map(self.name, definition.start_columns):
            yield f"NEW.{column} > OLD.{column}"
            yield f"(NEW.{column} IS NULL) <> (OLD.{column} IS NULL)"
        yield from map(self.claimed, definition.claim_columns)
        if definition.state_column is not None:
            yield f"NEW.{self.name(definition.state_column)} IN ({self._list(definition.restart_states)})"

    def _holds(self, value: Scalar | NullTest) -> str:
        return f"IS {value.value}" if isinstance(value, NullTest) else f"= {self.literal(value)}"

    def _list(self, values: Sequence[Scalar]) -> str:
        return ", ".join(map(self.literal, values))


def fence_object_name(table: str, longest: int, cut: Callable[[str, int], str]) -> str:
    """The name of what the fence of a table creates. A name that is too long is cut, and ends in a hash of the table.

    `cut` shortens a text to a length, which each server measures in its own way.
    """
    name = reserved_alias(f"fence_{table}")
    if cut(name, longest) == name:
        return name
    return f"{cut(name, longest - 9)}_{hashlib.sha256(table.encode()).hexdigest()[:8]}"
