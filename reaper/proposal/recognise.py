"""Recognises job systems by their tables: those of every shipped profile, in any schema, also under another prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from reaper.catalog import Catalog
from reaper.profile import Profile, resolve, shipped
from reaper.profile.corrections import Corrections, corrected_profile
from reaper.profile.name_spelling import without_optional_inserts
from reaper.proposal.table_names import TableNames, schema_of_bare, source_name
from reaper.proposal.zones import ZoneOfMoments, zone_of_moments
from reaper.sql.tables import split_name


@dataclass(frozen=True, slots=True)
class System:
    """One installation of a system that a shipped profile is for.

    `renamed` has the tables that the profile calls otherwise, by their names in it: in another schema, or with another
    prefix. `place` tells this installation from others of the same system; it is empty for the usual one.
    """

    profile: Profile
    tables: Sequence[str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    zone: ZoneOfMoments | None = None

    @property
    def name(self) -> str:
        """The name of its source, and of its profile where that is not the shipped one."""
        return f"{self.profile.name}-{self.place}" if self.place else self.profile.name


@dataclass(frozen=True, slots=True)
class NearlyFound:
    """Tables that may be those of a system in a version that its shipped profile is not for: what they lack."""

    profile: str
    table: str
    missing: Sequence[str]


def recognise(catalog: Catalog, connection: Connection) -> tuple[list[System], list[NearlyFound]]:
    """The systems whose tables are there, with every column that their profiles name; and what nearly is one."""
    tables = catalog.every_table()
    systems, near = list[System](), list[NearlyFound]()
    for name in shipped():
        profile = resolve(name)
        if profile.jobs.log is not None and connection.dialect.name != "postgresql":
            continue
        found = list(_installations(profile, tables))
        systems += [_with_zone(catalog, connection, _named(catalog, tables, one)) for one in found if not one.missing]
        near += [
            NearlyFound(name, f"{one.schema}.{one.names[profile.jobs.table]}", one.missing)
            for one in found
            if one.missing
        ]
    return list(_with_names_of_their_own(systems)), near


def _with_names_of_their_own(systems: Sequence[System]) -> Iterator[System]:
    """Names of schemas that differ only in what no source can be called by become names that differ."""
    taken = set[str]()
    for system in systems:
        name, number = system, 1
        while name.name in taken:
            number += 1
            name = replace(system, place=f"{system.place}-{number}".strip("-"))
        taken.add(name.name)
        yield name


@dataclass(frozen=True, slots=True)
class _Installation:
    """Tables of one schema: their real names by those in the profile, and what the profile names besides.

    `prefix` stands before the names in the place of the usual one; None where the names are as in the profile.
    """

    profile: Profile
    schema: str
    names: Mapping[str, str]
    missing: Sequence[str]
    prefix: str | None


def _installations(profile: Profile, tables: TableNames) -> Iterator[_Installation]:
    needed = without_optional_inserts(profile).applied_to(profile).columns()
    usual = _usual_prefix([split_name(name)[1].casefold() for name in needed])
    rests = {name: split_name(name)[1].casefold().removeprefix(usual) for name in needed}
    jobs = rests[profile.jobs.table]
    for schema in dict.fromkeys(schema for schema, _ in tables):
        here = {name: columns for (place, name), columns in tables.items() if place == schema and "." not in name}
        for first in (name for name in here if name.casefold().endswith(jobs)):
            prefix = first[: len(first) - len(jobs)]
            found = {name: _spelled(prefix + rest, here) for name, rest in rests.items()}
            missing = list(_missing(needed, found, here))
            as_usual = prefix.casefold() == usual
            # A table whose name only ends alike, and which lacks something, has nothing to do with the system.
            if not missing or (as_usual and _has_its_jobs(profile, here[first])):
                names = {name: real or name for name, real in found.items()}
                yield _Installation(profile, schema, names, missing, None if as_usual else prefix)


def _usual_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to an underscore; nothing for one table alone."""
    if len(names) == 1:
        return ""
    first, last = min(names), max(names)
    alike = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[: first[:alike].rfind("_") + 1]


def _spelled(name: str, tables: Mapping[str, Sequence[str]]) -> str | None:
    """The table of this name, in whatever case."""
    if name in tables:
        return name
    return next((real for real in tables if real.casefold() == name.casefold()), None)


def _missing(
    needed: Mapping[str, set[str]], names: Mapping[str, str | None], tables: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for table, columns in needed.items():
        real = names[table]
        if real is None:
            yield f"table {table}"
            continue
        there = {column.casefold() for column in tables[real]}
        yield from (f"column {table}.{column}" for column in sorted(columns) if column.casefold() not in there)


def _has_its_jobs(profile: Profile, columns: Sequence[str]) -> bool:
    """Whether a table has what says which jobs run, so that a missing column is one of another version."""
    there, jobs = {column.casefold() for column in columns}, profile.jobs
    wanted = {*jobs.key, *jobs.started, *([jobs.state] if jobs.state else [])}
    return {name.casefold() for name in wanted} <= there


def _named(catalog: Catalog, tables: TableNames, found: _Installation) -> System:
    """The names that the configuration needs for an installation."""
    renamed = dict[str, str]()
    for name, real in found.names.items():
        schema, bare = split_name(name)
        at_home = found.schema == (schema or schema_of_bare(catalog, tables, real))
        if not at_home or real.casefold() != bare.casefold():
            renamed[name] = real if at_home and schema is None else f"{found.schema}.{real}"
    parts = [found.schema] if any("." in spelled for spelled in renamed.values()) else []
    parts += [found.prefix.strip("_") or "unprefixed"] if found.prefix is not None else []
    place = source_name("-".join(parts)) if parts else ""
    return System(found.profile, sorted(f"{found.schema}.{real}" for real in found.names.values()), renamed, place)


def corrected(system: System) -> tuple[Profile, Corrections]:
    """The profile with the tables of this installation, and how it differs from the shipped one."""
    corrections = Corrections(tables=dict(system.renamed))
    if not system.renamed:
        return system.profile, corrections
    table = system.profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"name"})
    new = corrected_profile(system.profile, table, corrections)
    profile = Profile.model_validate({**new, "name": system.name})
    return profile.extending((system.name, *system.profile.lineage)), corrections


def _with_zone(catalog: Catalog, connection: Connection, system: System) -> System:
    profile, _ = corrected(system)
    return replace(system, zone=zone_of_moments(catalog, connection, profile))
