"""The sources: each one's database, profile and thresholds, and where every one of them was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reaper.model import ConfigError, KindLimits, Limit, Thresholds
from reaper.nearest import did_you_mean
from reaper.profile import Profile, resolve, shipped
from reaper.settings.checks import shown
from reaper.settings.database_url import identity
from reaper.settings.layers import Layer, Stack
from reaper.settings.lines import Place
from reaper.settings.schema import KindTable, SourceTable
from reaper.settings.urls import Found, Urls
from reaper.settings.values import SourceSettings
from reaper.settings.wording import dotted

_SHARED = SourceTable()


@dataclass
class Sources:
    """Resolves every source; what is wrong is added to `problems`, where things were said to `origins`."""

    stack: Stack
    flags: Layer
    file: Layer
    urls: Urls
    problems: list[str]
    origins: dict[str, str] = field(default_factory=dict)

    def resolve(self) -> dict[str, SourceSettings]:
        """The sources by name: those of the file, else one called "default", else none: there is no database."""
        tables: Mapping[str, SourceTable] = self.stack.given.sources
        if not tables and (self.urls.shared or "profile" in self.stack.given.model_fields_set):
            tables = {"default": _SHARED}
        profiles = self._own_profiles()
        made = [self._source(name, table, profiles) for name, table in tables.items()]
        sources = {source.name: source for source in made if source is not None}
        self._refuse_twins(sources)
        return sources

    def _source(self, name: str, table: SourceTable, profiles: Mapping[str, Profile | None]) -> SourceSettings | None:
        profile = self._profile(name, table, profiles)
        found = self.urls.of(name, table)
        thresholds = self._thresholds(name, table)
        if found is None and table is not _SHARED:
            self._refuse(
                ("sources", name),
                "no database; give database_url or database_url_file here or above the first [section], "
                f"REAPER_DATABASE_URL, REAPER_DATABASE_URL_FILE, or the credential {name}.database_url",
            )
        if found is None or found.url is None or profile is None:
            return None
        self._remember(name, table, found, thresholds)
        return SourceSettings(name, found.url, profile, thresholds)

    def _refuse(self, place: Place, message: str) -> None:
        self.problems.append(self.file.problem(place, message))

    def _remember(self, name: str, table: SourceTable, found: Found, thresholds: Thresholds) -> None:
        """Where the values of a source came from."""
        origins: dict[Place, str] = {
            ("database_url",): found.origin,
            ("profile",): self._profile_origin(name, table),
            ("timeout_seconds",): thresholds.timeout.origin,
            ("stall_seconds",): thresholds.stall.origin,
        }
        for kind, limits in thresholds.kinds.items():
            for knob, limit in (("timeout_seconds", limits.timeout), ("stall_seconds", limits.stall)):
                if limit is not None:
                    origins[("kinds", kind, knob)] = limit.origin
        self.origins |= {dotted(("sources", name, *place)): origin for place, origin in origins.items()}

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
        line = f"{origin}: there is no profile {shown(name)}{did_you_mean(name, {*own, *shipped()})}"
        if line not in self.problems:  # several sources may share the name, and the place that gives it
            self.problems.append(line)
        return None

    def _profile_origin(self, source: str, table: SourceTable) -> str:
        own = table.profile is not None
        return self.file.origin(("sources", source, "profile")) if own else self.stack.origin("profile")

    # Thresholds

    def _thresholds(self, source: str, table: SourceTable) -> Thresholds:
        shared = self.stack.given.kinds
        kinds = {
            kind: KindLimits(
                self._of_kind("timeout_seconds", kind, source), self._of_kind("stall_seconds", kind, source)
            )
            for kind in sorted({*shared, *table.kinds})
        }
        return Thresholds(self._of_source("timeout_seconds", source), self._of_source("stall_seconds", source), kinds)

    def _of_source(self, knob: str, source: str) -> Limit:
        """A flag, the source's own, or the one for all."""
        place = ("sources", source)
        table = self.stack.given.sources.get(source, _SHARED)
        own = getattr(table, knob)
        if own is None or knob in self.flags.values:
            return Limit(getattr(self.stack.given, knob), self.stack.origin(knob))
        return Limit(own, f"source {source} ({self.file.origin((*place, knob))})")

    def _of_kind(self, knob: str, kind: str, source: str) -> Limit | None:
        """The kind's threshold in the source, or in all; a flag is above both."""
        if knob in self.flags.values:
            return None
        table = self.stack.given.sources.get(source, _SHARED)
        places = (
            (table.kinds, ("sources", source, "kinds", kind, knob), f"kind {kind} of source {source}"),
            (self.stack.given.kinds, ("kinds", kind, knob), f"kind {kind}"),
        )
        for kinds, place, words in places:
            seconds = getattr(kinds.get(kind, KindTable()), knob)
            if seconds is not None:
                return Limit(seconds, f"{words} ({self.file.origin(place)})")
        return None

    def _refuse_twins(self, sources: Mapping[str, SourceSettings]) -> None:
        """Two sources that are one would count and report every job twice."""
        first: dict[tuple[object, ...], str] = {}
        for name, source in sources.items():
            same = first.setdefault((source.profile.name, *identity(source.database_url.get_secret_value())), name)
            if same != name:
                where = self.file.origin(("sources", same))
                self._refuse(
                    ("sources", name), f"the same database and profile as source {same!r} ({where}); drop one of them"
                )


def _inside(profile: str, line: str) -> Place:
    """The place in the file that a line about a profile speaks of."""
    where = line.removeprefix(f"profile {profile!r}: ")
    if where == line:  # it is about what the profile extends
        return ("profiles", profile, "extends")
    return ("profiles", profile, *where.partition(": ")[0].split("."))
