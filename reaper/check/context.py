"""What every check reads: the profile, the real tables under its names, and the corrections of the profile so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from reaper.catalog import Catalog, NotVisible
from reaper.catalog.tables import Column, Table
from reaper.grants.needs import RequiredPrivileges, Workload, required_privileges
from reaper.profile import Profile
from reaper.profile.corrections import Corrections
from reaper.sql.tables import ProfileTables, split_name

OVERRIDE = "the profile's override"
"""Stands for the fix of a finding until all corrections of the profile are known."""


@dataclass(frozen=True)
class CheckContext:
    """One profile on one database. Tables and columns are looked up by their names in the profile."""

    profile: Profile
    catalog: Catalog
    stall_seconds: float
    workload: Workload = field(default_factory=Workload)
    tables: dict[str, Table] = field(default_factory=dict)
    hidden: dict[str, NotVisible] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)  # tables that could not be read, each with the reason
    corrections: Corrections = field(default_factory=Corrections)

    @cached_property
    def required(self) -> Mapping[str, RequiredPrivileges]:
        """The privileges that the workload needs, table by table."""
        return required_privileges(self.profile, self.workload)

    @cached_property
    def schema(self) -> ProfileTables:
        """The tables for statements: a bare name with the schema in which it was found, where there is a path."""
        has_path = self.catalog.search_path(self.catalog.server.role) is not None
        bare = {name: table for name, table in self.tables.items() if has_path and split_name(name)[0] is None}
        return ProfileTables(self.profile, {name: table.schema for name, table in bare.items()})

    @property
    def role(self) -> str:
        """The connected role, for a message."""
        return f"the role {self.catalog.server.role!r}"

    @property
    def jobs(self) -> Table | None:
        """The jobs table, if it exists and has rows of its own."""
        return self.table_with_rows(self.profile.jobs.table)

    def table_with_rows(self, name: str) -> Table | None:
        table = self.tables.get(name)
        return table if table and table.has_own_rows else None

    def column(self, table: str, name: str) -> Column | None:
        table, name = self.profile.real_column(table, name)
        real_table = self.tables.get(table)
        return real_table.columns.get(name) if real_table else None

    def columns(self, table: str, names: Iterable[str]) -> Iterator[Column]:
        """The columns among these that exist."""
        return (column for name in names if (column := self.column(table, name)))

    def has_columns(self, table: str, names: Iterable[str]) -> bool:
        """Whether all of the columns exist."""
        return all(self.column(table, name) for name in names)

    def may_read(self, table: str, columns: Collection[str]) -> bool:
        """Whether all of the columns exist, and can be read without a call of what is not the server's own."""
        real = self.tables.get(table)
        if real is None or real.reading_calls_others:
            return False
        return self.has_columns(table, columns) and real.readable(columns)


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)
