"""Resolves the sources: the database, profile, broker and thresholds of each, and where every value was set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reaper.common.suggestions import did_you_mean
from reaper.config.error_messages import dotted
from reaper.config.layers import Layer, LayerStack
from reaper.config.schema import RENAMED_SETTINGS, KeyPath, PurgeTable, SourceTable
from reaper.config.settings import INHERITED_SETTINGS, PurgeSettings, SourceSettings
from reaper.config.thresholds import ThresholdResolver, threshold_origins
from reaper.config.url_lookup import ResolvedUrl, UrlLookup
from reaper.config.urls import MARIADB, connection_identity
from reaper.config.validators import quote
from reaper.config.vuls_variables import BorrowedUrls
from reaper.errors import ConfigError
from reaper.profile import Profile, resolve, shipped

_UNNAMED = SourceTable()
"""The table of the source "default", which exists where a database is given and the file names no source."""


@dataclass
class SourceResolver:
    """Resolves every source. What is wrong is added to `problems`, where values were set to `origins`."""

    stack: LayerStack
    flags: Layer
    file: Layer
    databases: UrlLookup
    brokers: UrlLookup
    borrowed: BorrowedUrls
    problems: list[str]
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def without_sources(self) -> bool:
        """The file says `sources = []`: that there is no source is meant, and no forgotten URL."""
        return self.file.values.get("sources") == []

    def resolve(self) -> dict[str, SourceSettings]:
        """The sources by name: those of the file, else one called "default", else none: no database is given."""
        tables: Mapping[str, SourceTable] = self.stack.settings.sources
        if self.without_sources:
            self._check_without_sources()
        elif not tables and (self.databases.shared or "profile" in self.stack.settings.model_fields_set):
            tables = {"default": _UNNAMED}
        profiles = self._profiles_in_file()
        self._check_renamed(tables)
        resolved = [self._source(name, table, profiles) for name, table in tables.items()]
        sources = {source.name: source for source in resolved if source is not None}
        self._check_duplicates(sources)
        return sources

    def _source(self, name: str, table: SourceTable, profiles: Mapping[str, Profile | None]) -> SourceSettings | None:
        profile = self._profile(name, table, profiles)
        database, broker = self.databases.of(name, table), self.brokers.of(name, table)
        if profile is not None and profile.is_vuls:
            database = database or self.borrowed.database()
            broker = broker or (self.borrowed.broker() if profile.needs_broker else None)
        inherited = inherited_values(name, table, self.stack, self.flags, self.file)
        if profile is not None:
            self._check_action(profile, inherited)
            self._check_broker(name, table, profile, broker)
            self._check_purge(name, table, profile)
            self._check_log(name, table, profile, database)
            self._check_start_lost(name, table, profile)
            self._check_worker_lost(name, table, profile)
            self._check_close_interrupted(profile, inherited)
            self._check_search_path(name, table, database)
            self._check_never(name, table, profile)
        if database is None and table is not _UNNAMED:
            self._add_file_problem(("sources", name), f"no database; {_how_to_set('database_url', name)}")
        if database is None or database.url is None or profile is None:
            return None
        looked_into = f"profile {profile.name!r}"
        if table.search_path is not None:
            looked_into = self.file.origin(("sources", name, "search_path"))
            profile = profile.model_copy(update={"search_path": table.search_path})
        thresholds = ThresholdResolver(self.stack, self.flags, self.file).of(name, table)
        origins = {
            ("database_url",): database.origin,
            ("broker_url",): broker.origin if broker else "default",
            ("profile",): self._profile_origin(name, table),
            **dict(threshold_origins(thresholds)),
            **inherited.origins,
        }
        if profile.search_path:
            origins[("search_path",)] = looked_into
        self.origins |= {dotted(("sources", name, *key)): origin for key, origin in origins.items()}
        return SourceSettings(
            name,
            database.url,
            profile.in_zone(inherited.values["time_zone"]),
            thresholds,
            broker=broker.url if broker else None,
            borrowed_broker=broker.origin if broker and broker.borrowed else None,
            purge=inherited.purge,
            **inherited.values,
        )

    def _add_file_problem(self, key: KeyPath, message: str) -> None:
        self._add_problem(self.file.problem(key, message))

    def _add_problem(self, line: str) -> None:
        if line not in self.problems:  # several sources may inherit the same wrong value
            self.problems.append(line)

    # --- checks across values ----------------------------------------------------------------------------------

    def _check_without_sources(self) -> None:
        self.origins["sources"] = self.file.origin(("sources",))
        if self.databases.shared is not None:
            message = (
                f"[] means no source at all, but {self.databases.shared.origin} gives a database; remove one of them"
            )
            self._add_file_problem(("sources",), message)

    def _check_action(self, profile: Profile, inherited: InheritedValues) -> None:
        action, origin = inherited.values["action"], inherited.origins[("action",)]
        if action not in profile.action_names:
            hint = did_you_mean(action, profile.action_names)
            self._add_problem(f"{origin}: profile {profile.name!r} has no action {quote(action)}{hint}")

    def _check_broker(self, name: str, table: SourceTable, profile: Profile, broker: ResolvedUrl | None) -> None:
        """Without a broker, such a profile would have no sign of life, and every job would be spared for ever."""
        if broker is not None or not profile.needs_broker:
            return
        message = f"profile {profile.name!r} inspects Celery's workers, and no broker is given"
        if table is _UNNAMED:
            self._add_problem(f"{self._profile_origin(name, table)}: {message}; {_how_to_set('broker_url')}")
        else:
            self._add_file_problem(("sources", name), f"{message}; {_how_to_set('broker_url', name)}")

    def _check_purge(self, name: str, table: SourceTable, profile: Profile) -> None:
        if table.purge.model_fields_set and profile.purge is None:
            message = (
                f"profile {profile.name!r} does not say which jobs are finished, so that none can be purged; "
                f"remove this table, or give the profile a purge part"
            )
            self._add_file_problem(("sources", name, "purge"), message)

    def _check_log(self, name: str, table: SourceTable, profile: Profile, database: ResolvedUrl | None) -> None:
        """MariaDB has no lock that keeps entries from being written until a commit."""
        if profile.jobs.log is None or database is None or database.url is None:
            return
        if not database.url.get_secret_value().startswith(MARIADB):
            return
        message = f"the jobs of profile {profile.name!r} exist only as a log, which needs PostgreSQL, not MariaDB"
        if table is _UNNAMED:
            self._add_problem(f"{self._profile_origin(name, table)}: {message}")
        else:
            self._add_file_problem(("sources", name), message)

    def _check_start_lost(self, name: str, table: SourceTable, profile: Profile) -> None:
        if table.start_lost in (None, "off") or profile.with_start_lost() is not None:
            return
        message = (
            f"profile {profile.name!r} does not look for jobs whose start was lost; remove this line, or give the "
            "profile jobs.log.start_lost"
        )
        self._add_file_problem(("sources", name, "start_lost"), message)

    def _check_worker_lost(self, name: str, table: SourceTable, profile: Profile) -> None:
        if table.worker_lost in (None, "off"):
            return
        if profile.jobs.log is not None:
            message = (
                f"the jobs of profile {profile.name!r} exist only as a log: sweeps do not end them for their workers; "
                "remove this line"
            )
        elif profile.worker is None or profile.worker.gone_after is None:
            message = (
                f"profile {profile.name!r} does not say when a worker is gone; remove this line, or give the profile a "
                "witness worker with gone_after"
            )
        else:
            return
        self._add_file_problem(("sources", name, "worker_lost"), message)

    def _check_renamed(self, tables: Mapping[str, SourceTable]) -> None:
        """Old names of settings: a note for each, and a problem where one place gives both names."""
        places: list[tuple[Layer, KeyPath, Mapping[str, Any]]] = [
            (layer, (), layer.values) for layer in self.stack.layers
        ]
        own = self.file.values.get("sources")
        if isinstance(own, Mapping):
            places += [
                (self.file, ("sources", name), own[name]) for name in tables if isinstance(own.get(name), Mapping)
            ]
        for layer, path, values in places:
            for old, new in RENAMED_SETTINGS.items():
                if old not in values:
                    continue
                if new in values:
                    self._add_problem(
                        layer.problem((*path, old), f"is now called {new}, which is given too; remove this")
                    )
                else:
                    self.notes.append(
                        layer.problem((*path, old), f"is now called {new}; the old name goes with the next release")
                    )

    def _check_close_interrupted(self, profile: Profile, inherited: InheritedValues) -> None:
        """That a restart interrupted jobs takes a proof: which server holds them, or that there is only one."""
        values, origins = inherited.values, inherited.origins
        holder, only = values["close_interrupted_holder"], values["close_interrupted_only_server"]
        if holder is not None and profile.jobs.holder is None:
            self._add_problem(
                f"{origins[('close_interrupted_holder',)]}: profile {profile.name!r} does not say which column names "
                "the holder of a job; give it jobs.holder, or set close_interrupted_only_server = true"
            )
        if holder is not None and only:
            self._add_problem(
                f"{origins[('close_interrupted_only_server',)]}: close_interrupted_holder names one of several "
                "servers; give one of the two"
            )
        if values["close_interrupted_at_start"] and holder is None and not only:
            self._add_problem(
                f"{origins[('close_interrupted_at_start',)]}: nothing says whose jobs a restart has interrupted: give "
                'close_interrupted_holder = "NAME" (profile: jobs.holder), or close_interrupted_only_server = true '
                "where no other server works on the jobs"
            )

    def _check_search_path(self, name: str, table: SourceTable, database: ResolvedUrl | None) -> None:
        if table.search_path and database and database.url and database.url.get_secret_value().startswith(MARIADB):
            message = "MariaDB looks names up in the database of the URL alone; remove this line"
            self._add_file_problem(("sources", name, "search_path"), message)

    def _check_never(self, name: str, table: SourceTable, profile: Profile) -> None:
        if table.never and profile.jobs.kind is None:
            message = (
                f"profile {profile.name!r} does not say which column has the kind of a job, so that no job would be "
                "spared for its kind; give it jobs.kind, or remove this line"
            )
            self._add_file_problem(("sources", name, "never"), message)

    def _check_duplicates(self, sources: Mapping[str, SourceSettings]) -> None:
        """Two sources with the same jobs would count and report every job twice."""
        first: dict[tuple[object, ...], str] = {}
        for name, source in sources.items():
            identity = (source.profile.name, *connection_identity(source.database_url.get_secret_value()))
            same = first.setdefault(identity, name)
            if same != name:
                origin = self.file.origin(("sources", same))
                message = f"the same database and profile as source {same!r} ({origin}); remove one of them"
                self._add_file_problem(("sources", name), message)

    # --- profiles ----------------------------------------------------------------------------------------------

    def _profiles_in_file(self) -> dict[str, Profile | None]:
        """The profiles of the file, whether a source uses them or not. None: it is wrong, and among the problems."""
        tables, profiles = self.stack.settings.profiles, dict[str, Profile | None]()
        for name in tables:
            try:
                profiles[name] = resolve(name, tables)
            except ConfigError as error:
                profiles[name] = None
                self.problems += [f"{self.file.origin(_key_in_profile(name, line))}: {line}" for line in error.problems]
        return profiles

    def _profile(self, source: str, table: SourceTable, own: Mapping[str, Profile | None]) -> Profile | None:
        name = table.profile or self.stack.settings.profile
        if name in own:
            return own[name]
        if name in shipped():
            return resolve(name)
        origin = self._profile_origin(source, table)
        self._add_problem(f"{origin}: there is no profile {quote(name)}{did_you_mean(name, {*own, *shipped()})}")
        return None

    def _profile_origin(self, source: str, table: SourceTable) -> str:
        own = table.profile is not None
        return self.file.origin(("sources", source, "profile")) if own else self.stack.origin("profile")


def _how_to_set(setting: str, source: str | None = None) -> str:
    """The ways in which a source can be given one of its URLs."""
    place, credential = ("here or above the first [section]", f"{source}.{setting}") if source else ("", setting)
    in_file = f"{setting} or {setting}_file {place}".rstrip()
    return f"give {in_file}, REAPER_{setting.upper()}, REAPER_{setting.upper()}_FILE, or the credential {credential}"


def _key_in_profile(profile: str, line: str) -> KeyPath:
    """The key in the file to which a line of an error about a profile refers."""
    where = line.removeprefix(f"profile {profile!r}: ")
    if where == line:  # the line is about the profile that this one extends
        return ("profiles", profile, "extends")
    return ("profiles", profile, *where.partition(": ")[0].split("."))


@dataclass(frozen=True)
class InheritedValues:
    """The INHERITED_SETTINGS of one source, its purge, and where each was set, by its key in the source's table."""

    values: Mapping[str, Any]
    purge: PurgeSettings
    origins: Mapping[KeyPath, str]


def inherited_values(source: str, table: SourceTable, stack: LayerStack, flags: Layer, file: Layer) -> InheritedValues:
    """Each value from the flag, else from the source's own table, else from the settings for all sources."""
    values, origins = dict[str, Any](), dict[KeyPath, str]()
    for name in INHERITED_SETTINGS:
        given = _name_in(table, name)
        if given is None or name in flags.values:
            shared = _name_in_layers(stack, name)
            values[name], origins[(name,)] = getattr(stack.settings, shared), stack.origin(shared)
        else:
            values[name], origins[(name,)] = getattr(table, given), file.origin(("sources", source, given))
    purge = PurgeSettings(**table.purge.model_dump())
    return InheritedValues(values, purge, origins | dict(_purge_origins(source, table.purge, file)))


def _spellings(name: str) -> list[str]:
    """The names of a setting, the present one first."""
    return [name, *(old for old, new in RENAMED_SETTINGS.items() if new == name)]


def _name_in(table: SourceTable, name: str) -> str | None:
    """The name by which a source's own table gives a setting; None when it does not."""
    return next((spelling for spelling in _spellings(name) if getattr(table, spelling) is not None), None)


def _name_in_layers(stack: LayerStack, name: str) -> str:
    """The name by which the first layer that has a setting gives it."""
    given = (spelling for layer in stack.layers for spelling in _spellings(name) if spelling in layer.values)
    return next(given, name)


def _purge_origins(source: str, purge: PurgeTable, file: Layer) -> Iterator[tuple[KeyPath, str]]:
    for name in PurgeTable.model_fields:
        given = name in purge.model_fields_set
        yield ("purge", name), file.origin(("sources", source, "purge", name)) if given else "default"
