"""What the checks share: the profile, the real tables behind its names, and the corrections found so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from reaper.catalog import Catalog, NotVisible
from reaper.catalog.tables import Column, Table
from reaper.check.profile_fix import Corrections
from reaper.grants.needs import RequiredPrivileges, Workload, needs
from reaper.profile import Profile
from reaper.sql.tables import ProfileTables

OVERRIDE = "the profile's override"
"""Stands for a fix that is known only when all corrections are."""


@dataclass(frozen=True)
class CheckContext:
    """One look at one database through one profile."""

    profile: Profile
    catalog: Catalog
    schema: ProfileTables
    stall_seconds: float
    duties: Workload = field(default_factory=Workload)
    tables: dict[str, Table] = field(default_factory=dict)
    hidden: dict[str, NotVisible] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)  # tables that could not be looked at, and why
    corrections: Corrections = field(default_factory=Corrections)

    @cached_property
    def needs(self) -> Mapping[str, RequiredPrivileges]:
        """What has to be allowed, table by table."""
        return needs(self.profile, self.duties)

    @property
    def jobs(self) -> Table | None:
        """The table of jobs, when there is one with rows of its own."""
        return self.real(self.profile.jobs.table)

    def real(self, name: str) -> Table | None:
        table = self.tables.get(name)
        return table if table and table.real else None

    def column(self, table: str, name: str) -> Column | None:
        found = self.tables.get(table)
        return found.columns.get(name) if found else None

    def columns(self, table: str, names: Iterable[str]) -> Iterator[Column]:
        """Those of the columns that exist."""
        return (column for name in names if (column := self.column(table, name)))

    def complete(self, table: str, names: Iterable[str]) -> bool:
        """All of the columns exist."""
        return all(self.column(table, name) for name in names)


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)
