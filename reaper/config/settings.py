"""The settings in force: complete, checked and frozen. What the rest of the program reads."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from reaper.common.durations import format_duration, parse_duration
from reaper.common.rates import Rate
from reaper.common.weekly_times import WeeklyTime
from reaper.config.error_messages import dotted
from reaper.config.schema import DaemonSettings
from reaper.config.token_file import TokenFile, read_token_file
from reaper.config.urls import mask_broker_url, mask_database_url
from reaper.config.vuls_variables import BROKER_VARIABLES, DATABASE_VARIABLES
from reaper.errors import ConfigError
from reaper.model import Threshold, Thresholds
from reaper.profile import Profile

INHERITED_SETTINGS = (
    "action",
    "max_age_seconds",
    "broker_deadline_seconds",
    "worker_absence_seconds",
    "queues",
    "close_interrupted_at_start",
    "close_interrupted_window_seconds",
    "close_interrupted_holder",
    "close_interrupted_only_server",
    "start_lost",
    "worker_lost",
    "requeue_limit",
    "time_zone",
    "never",
    "quiet",
    "most",
    "observe",
)
"""Settings that a source inherits from those for all sources where it has no value of its own."""


@dataclass(frozen=True, slots=True)
class PurgeSettings:
    """Retention of finished jobs: those older than `days_to_keep` are deleted, `batch_size` per transaction.

    `cron` is a cron expression (`reaper.config.cron`), in UTC; None: only `reaper purge` purges.
    """

    cron: str | None = None
    days_to_keep: int = 30
    batch_size: int = 1000


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One database with jobs, and everything that applies to it. Durations are seconds.

    `action` is the profile's action that a sweep takes. `broker` is the URL through which Celery's workers are
    inspected, None where none is given; jobs of this source wait in `queues`, and stay unknown for
    `worker_absence_seconds` after a worker of these queues disappeared. A job that is active in a live worker is spared
    until it is older than `max_age_seconds`; None: at any age. `start_lost` says whether jobs of a log whose start was
    lost are looked for: "off"; "show", by what shows jobs; "end", also by sweeps. `worker_lost` says what sweeps do
    with a job whose worker is gone: "off", no more than with others; "fail", fail it; "action", take `action`, which
    may start it again while a worker that was only paused still works on it. Sweeps start a job
    again at most `requeue_limit` times, and then fail it. `time_zone` is that of moments
    without one, where the profile says no other; None: it is not said. `borrowed_broker` is the variable of
    another application that gave the broker; None where a setting did. `close_interrupted_at_start`: the server that
    works on the jobs restarts with the daemon, and its jobs are closed then. Either `close_interrupted_holder` is that
    server, as the profile's holder column names it, or it is the only one. `never` are patterns for kinds whose jobs
    are not ended, `quiet` the times in which none is, and `most` how many are ended in a while; None: any number.
    `observe`: its jobs are judged, and nothing is ended, revoked or purged.
    """

    name: str
    database_url: SecretStr
    profile: Profile
    thresholds: Thresholds
    action: str = "fail"
    max_age_seconds: float | None = None
    broker: SecretStr | None = None
    broker_deadline_seconds: float = 5.0
    worker_absence_seconds: float = 300.0
    queues: tuple[str, ...] = ("celery",)
    close_interrupted_at_start: bool = False
    close_interrupted_window_seconds: float = 300.0
    close_interrupted_holder: str | None = None
    close_interrupted_only_server: bool = False
    start_lost: Literal["off", "show", "end"] = "show"
    worker_lost: Literal["off", "fail", "action"] = "off"
    requeue_limit: int = 3
    time_zone: str | None = None
    never: tuple[str, ...] = ()
    quiet: tuple[WeeklyTime, ...] = ()
    most: Rate | None = None
    observe: bool = False
    purge: PurgeSettings = PurgeSettings()
    borrowed_broker: str | None = None

    @property
    def gone_after_seconds(self) -> float | None:
        """When a worker is gone, whose jobs sweeps then end; None where they do not."""
        worker, is_log = self.profile.worker, self.profile.jobs.log is not None
        return None if worker is None or is_log or self.worker_lost == "off" else worker.gone_after

    @property
    def longest_timeout(self) -> float:
        """The longest timeout of its jobs, in seconds; infinite where a job's row may have one of its own."""
        if self.profile.limits is not None and self.profile.limits.timeout is not None:
            return float("inf")
        kinds = (limits.timeout for limits in self.thresholds.kinds.values())
        return max(limit.seconds for limit in (self.thresholds.timeout, *kinds) if limit is not None)


@dataclass(frozen=True, slots=True)
class HiddenValue:
    """A value of the file that has no effect: where it stands, and what has precedence, such as a variable.

    The value may be a secret: it is kept for comparisons alone.
    """

    origin: str
    hidden_by: str
    value: object = field(repr=False)


@dataclass(frozen=True)
class DatabaseSettings:
    """A database that no source is configured for yet: its URL, and where that was set, in `url_file` if in a file.

    `has_broker`: the environment gives the URL of Celery's broker.
    """

    url: SecretStr
    origin: str
    url_file: Path | None
    has_broker: bool
    connect_timeout_seconds: float


class Settings(DaemonSettings):
    """The configuration in force. Durations are seconds.

    `origins` says where each value was set, by its name in the file. `config_file` is the file that was read, or None.
    `without_sources`: the file says `sources = []`, so a daemon that sweeps nothing is what was meant. `notes` are
    lines about variables of other applications that were left alone, and about old names of settings. `hidden` are the
    values of the file that something with precedence hides, by their names there.
    """

    model_config = SettingsConfigDict(validate_by_name=True, validate_by_alias=False)

    config_file: Path | None = None
    sources: Mapping[str, SourceSettings] = {}
    without_sources: bool = False
    origins: Mapping[str, str] = {}
    notes: Sequence[str] = ()
    hidden: Mapping[str, HiddenValue] = {}

    def ending_observed(self) -> Settings:
        """These settings for one operation that ends jobs of observed sources, too."""
        sources = {name: replace(source, observe=False) for name, source in self.sources.items()}
        return self.model_copy(update={"sources": sources})

    @property
    def borrowed(self) -> Mapping[str, str]:
        """The URLs that variables of another application gave: by the name in the file, the variable."""
        variables = (*DATABASE_VARIABLES, *BROKER_VARIABLES)
        return {name: origin for name, origin in self.origins.items() if origin in variables}

    @property
    def http_tokens(self) -> Mapping[str, SecretStr]:
        """The tokens that permit changes over HTTP, by name. Raises ConfigError when the file is wrong."""
        file = self.read_token_file()
        if file.problems:
            raise ConfigError(file.problems)
        return file.tokens

    def read_token_file(self) -> TokenFile:
        """The file with the tokens as it is now: few commands need it."""
        if self.http_token_file is None:
            return TokenFile()
        return read_token_file(self.http_token_file, self.origins.get("http_token_file", "default"))

    @property
    def http_exposed(self) -> bool:
        """Whether the HTTP port may be reached from other machines."""
        if self.http_port == 0 or self.http_host.casefold() == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.http_host).is_loopback
        except ValueError:
            return True  # a name may resolve to any address

    def described(self) -> list[tuple[str, str, str]]:
        """Name in the file, value without secrets, and origin of each value."""
        rows = [("config", str(self.config_file or "none"))]
        for name, setting in DaemonSettings.model_fields.items():
            rows.append((setting.alias or name, describe_setting(name, getattr(self, name))))
        if self.without_sources:
            rows.append(("sources", "none"))
        for source in self.sources.values():
            rows += [(dotted(("sources", source.name, *key)), value) for key, value in _values_of(source)]
        return [(name, value, self.origins.get(name, "default")) for name, value in rows]


def _values_of(source: SourceSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    yield ("database_url",), mask_database_url(source.database_url.get_secret_value())
    yield ("profile",), source.profile.name
    if source.profile.search_path:
        yield ("search_path",), ", ".join(source.profile.search_path)
    yield ("timeout_seconds",), _seconds(source.thresholds.timeout)
    yield ("stall_seconds",), _seconds(source.thresholds.stall)
    yield ("broker_url",), mask_broker_url(source.broker.get_secret_value()) if source.broker else "none"
    for name in INHERITED_SETTINGS:
        yield (name,), describe_setting(name, getattr(source, name))
    for name in PurgeSettings.__dataclass_fields__:
        yield ("purge", name), describe_setting(name, getattr(source.purge, name))
    for kind, limits in source.thresholds.kinds.items():
        for name, limit in (("timeout_seconds", limits.timeout), ("stall_seconds", limits.stall)):
            if limit is not None:
                yield ("kinds", kind, name), _seconds(limit)


def _seconds(limit: Threshold) -> str:
    return describe_setting("seconds", limit.seconds)


def describe_setting(name: str, value: object) -> str:
    """The value of a setting as it could be written in the file. Durations are shortened where that is exact."""
    if name.endswith("seconds") and isinstance(value, float):
        words = format_duration(value)
        return words if parse_duration(words) == value else f"{value!r}s".replace(".0s", "s")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return (", " if all(isinstance(item, str) for item in value) else "; ").join(map(str, value)) or "none"
    return "none" if value is None else str(value)
