"""The sources: each one's database, profile and thresholds, and where every one of them was said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reaper.common.suggestions import did_you_mean
from reaper.config.database_url import MARIADB, connection_identity
from reaper.config.error_messages import dotted
from reaper.config.layers import Layer, Stack
from reaper.config.schema import KindTable, PurgeTable, SourceTable
from reaper.config.settings import INHERITED_SETTINGS, PurgeSettings, SourceSettings
from reaper.config.toml_lines import KeyPath
from reaper.config.url_lookup import FoundUrl, UrlLookup
from reaper.config.validators import shown
from reaper.errors import ConfigError
from reaper.model import KindThresholds, Threshold, Thresholds
from reaper.profile import Profile, resolve, shipped

_SHARED = SourceTable()


@dataclass
class Sources:
    """Resolves every source; what is wrong is added to `problems`, where things were said to `origins`."""

    stack: Stack
    flags: Layer
    file: Layer
    databases: UrlLookup
    brokers: UrlLookup
    problems: list[str]
    origins: dict[str, str] = field(default_factory=dict)

    def resolve(self) -> dict[str, SourceSettings]:
        """The sources by name: those of the file, else one called "default", else none: there is no database."""
        tables: Mapping[str, SourceTable] = self.stack.given.sources
        if not tables and (self.databases.shared or "profile" in self.stack.given.model_fields_set):
            tables = {"default": _SHARED}
        profiles = self._own_profiles()
        made = [self._source(name, table, profiles) for name, table in tables.items()]
        sources = {source.name: source for source in made if source is not None}
        self._refuse_twins(sources)
        return sources

    def _source(self, name: str, table: SourceTable, profiles: Mapping[str, Profile | None]) -> SourceSettings | None:
        profile = self._profile(name, table, profiles)
        found, broker = self.databases.of(name, table), self.brokers.of(name, table)
        own = source_values(name, table, self.stack, self.flags, self.file)
        if profile is not None:
            self._check_action(profile, own)
            self._check_broker(name, table, profile, broker)
            self._check_purge(name, table, profile)
            self._check_log(name, table, profile, found)
        if found is None and table is not _SHARED:
            self._refuse(("sources", name), f"no database; {_ways('database_url', name)}")
        if found is None or found.url is None or profile is None:
            return None
        thresholds = ThresholdResolver(self.stack, self.flags, self.file).of(name, table)
        places = {
            ("database_url",): found.origin,
            ("broker_url",): broker.origin if broker else "default",
            ("profile",): self._profile_origin(name, table),
            **dict(origins(thresholds)),
            **own.origins,
        }
        self.origins |= {dotted(("sources", name, *place)): origin for place, origin in places.items()}
        return SourceSettings(
            name, found.url, profile, thresholds, broker=broker.url if broker else None, purge=own.purge, **own.values
        )

    def _refuse(self, place: KeyPath, message: str) -> None:
        self._tell(self.file.problem(place, message))

    def _tell(self, line: str) -> None:
        if line not in self.problems:  # several sources may share what is wrong, and the place that gives it
            self.problems.append(line)

    def _check_action(self, profile: Profile, own: SourceValues) -> None:
        action, origin = own.values["action"], own.origins[("action",)]
        if action not in profile.action_names:
            hint = did_you_mean(action, profile.action_names)
            self._tell(f"{origin}: profile {profile.name!r} has no action {shown(action)}{hint}")

    def _check_broker(self, name: str, table: SourceTable, profile: Profile, broker: FoundUrl | None) -> None:
        """Without its broker such a profile would know of no sign of life, and spare every job for ever."""
        if broker is not None or not profile.needs_broker:
            return
        message = f"profile {profile.name!r} asks Celery's workers, and no broker is given"
        if table is _SHARED:
            self._tell(f"{self._profile_origin(name, table)}: {message}; {_ways('broker_url')}")
        else:
            self._refuse(("sources", name), f"{message}; {_ways('broker_url', name)}")

    def _check_purge(self, name: str, table: SourceTable, profile: Profile) -> None:
        if table.purge.model_fields_set and profile.purge is None:
            message = f"profile {profile.name!r} does not say which jobs are finished, so that none can be purged"
            self._refuse(("sources", name, "purge"), message)

    def _check_log(self, name: str, table: SourceTable, profile: Profile, found: FoundUrl | None) -> None:
        """MariaDB has no lock that keeps entries from being written until a commit."""
        if profile.jobs.log is None or found is None or found.url is None:
            return
        if not found.url.get_secret_value().startswith(MARIADB):
            return
        message = f"the jobs of profile {profile.name!r} exist only as a log, which needs PostgreSQL, not MariaDB"
        if table is _SHARED:
            self._tell(f"{self._profile_origin(name, table)}: {message}")
        else:
            self._refuse(("sources", name), message)

    # Profiles

    def _own_profiles(self) -> dict[str, Profile | None]:
        """The file's profiles, used or not; None for one that is wrong, which is told."""
        own, found = self.stack.given.profiles, dict[str, Profile | None]()
        for name in own:
            try:
                found[name] = resolve(name, own)
            except ConfigError as error:
                found[name] = None
                self.problems += [f"{self.file.origin(_inside(name, line))}: {line}" for line in error.problems]
        return found

    def _profile(self, source: str, table: SourceTable, own: Mapping[str, Profile | None]) -> Profile | None:
        name = table.profile or self.stack.given.profile
        if name in own:
            return own[name]
        if name in shipped():
            return resolve(name)
        origin = self._profile_origin(source, table)
        self._tell(f"{origin}: there is no profile {shown(name)}{did_you_mean(name, {*own, *shipped()})}")
        return None

    def _profile_origin(self, source: str, table: SourceTable) -> str:
        own = table.profile is not None
        return self.file.origin(("sources", source, "profile")) if own else self.stack.origin("profile")

    def _refuse_twins(self, sources: Mapping[str, SourceSettings]) -> None:
        """Two sources that are one would count and report every job twice."""
        first: dict[tuple[object, ...], str] = {}
        for name, source in sources.items():
            same = first.setdefault(
                (source.profile.name, *connection_identity(source.database_url.get_secret_value())), name
            )
            if same != name:
                where = self.file.origin(("sources", same))
                self._refuse(
                    ("sources", name), f"the same database and profile as source {same!r} ({where}); drop one of them"
                )


def _ways(setting: str, source: str | None = None) -> str:
    """How a source can be given one of its URLs."""
    place, credential = ("here or above the first [section]", f"{source}.{setting}") if source else ("", setting)
    in_file = f"{setting} or {setting}_file {place}".rstrip()
    return f"give {in_file}, REAPER_{setting.upper()}, REAPER_{setting.upper()}_FILE, or the credential {credential}"


def _inside(profile: str, line: str) -> KeyPath:
    """The place in the file that a line about a profile speaks of."""
    where = line.removeprefix(f"profile {profile!r}: ")
    if where == line:  # it is about what the profile extends
        return ("profiles", profile, "extends")
    return ("profiles", profile, *where.partition(": ")[0].split("."))


@dataclass(frozen=True)
class SourceValues:
    """One source's simple values by their names, its purge, and the origins of both by their places in its table."""

    values: Mapping[str, Any]
    purge: PurgeSettings
    origins: Mapping[KeyPath, str]


def source_values(source: str, table: SourceTable, stack: Stack, flags: Layer, file: Layer) -> SourceValues:
    """The nearest word counts; a flag is above them all."""
    values, origins = dict[str, Any](), dict[KeyPath, str]()
    for name in INHERITED_SETTINGS:
        own = getattr(table, name)
        if own is None or name in flags.values:
            values[name], origins[(name,)] = getattr(stack.given, name), stack.origin(name)
        else:
            values[name], origins[(name,)] = own, file.origin(("sources", source, name))
    purge = PurgeSettings(**table.purge.model_dump())
    return SourceValues(values, purge, origins | dict(_purge_origins(source, table.purge, file)))


def _purge_origins(source: str, purge: PurgeTable, file: Layer) -> Iterator[tuple[KeyPath, str]]:
    for name in PurgeTable.model_fields:
        given = name in purge.model_fields_set
        yield ("purge", name), file.origin(("sources", source, "purge", name)) if given else "default"


@dataclass(frozen=True)
class ThresholdResolver:
    """Resolves timeouts and stall windows."""

    stack: Stack
    flags: Layer
    file: Layer

    def of(self, source: str, table: SourceTable) -> Thresholds:
        shared = self.stack.given.kinds
        kinds = {
            kind: KindThresholds(
                self._of_kind("timeout_seconds", kind, source, table),
                self._of_kind("stall_seconds", kind, source, table),
            )
            for kind in sorted({*shared, *table.kinds})
        }
        timeout, stall = (self._of_source(knob, source, table) for knob in ("timeout_seconds", "stall_seconds"))
        return Thresholds(timeout, stall, kinds)

    def _of_source(self, knob: str, source: str, table: SourceTable) -> Threshold:
        """A flag, the source's own, or the one for all."""
        own = getattr(table, knob)
        if own is None or knob in self.flags.values:
            return Threshold(getattr(self.stack.given, knob), self.stack.origin(knob))
        return Threshold(own, f"source {source} ({self.file.origin(('sources', source, knob))})")

    def _of_kind(self, knob: str, kind: str, source: str, table: SourceTable) -> Threshold | None:
        """The kind's threshold in the source, or in all; a flag is above both."""
        if knob in self.flags.values:
            return None
        places = (
            (table.kinds, ("sources", source, "kinds", kind, knob), f"kind {kind} of source {source}"),
            (self.stack.given.kinds, ("kinds", kind, knob), f"kind {kind}"),
        )
        for kinds, place, words in places:
            seconds = getattr(kinds.get(kind, KindTable()), knob)
            if seconds is not None:
                return Threshold(seconds, f"{words} ({self.file.origin(place)})")
        return None


def origins(thresholds: Thresholds) -> Iterator[tuple[KeyPath, str]]:
    """Where each threshold came from, by its place below the source."""
    yield ("timeout_seconds",), thresholds.timeout.origin
    yield ("stall_seconds",), thresholds.stall.origin
    for kind, limits in thresholds.kinds.items():
        for knob, limit in (("timeout_seconds", limits.timeout), ("stall_seconds", limits.stall)):
            if limit is not None:
                yield ("kinds", kind, knob), limit.origin
