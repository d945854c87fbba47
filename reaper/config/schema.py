"""The schema of the settings: the name, the default and the permitted values of each.

A field's name (its alias, where it has one) is the name in the file; `REAPER_` and that name in capitals is the
environment variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from reaper.common.durations import ANY_AGE
from reaper.common.rates import Rate
from reaper.common.weekly_times import WeeklyTime
from reaper.config import validators

Threshold = Annotated[float, validators.duration(ANY_AGE)]
DatabaseUrl = Annotated[SecretStr, validators.database_url()]
FilePath = Annotated[Path, validators.path()]
Text = Annotated[str, validators.text()]
BrokerUrl = Annotated[SecretStr, validators.broker_url()]
Deadline = Annotated[float, validators.seconds("0.5s", "60s")]
Absence = Annotated[float, validators.seconds("0s", "7d")]
Name = Annotated[str, validators.name()]
Names = Annotated[tuple[str, ...], validators.names()]
Schemas = Annotated[tuple[str, ...], validators.schemas()]
Hosts = Annotated[tuple[str, ...], validators.hosts()]
Switch = Annotated[bool, validators.switch()]
Window = Annotated[float, validators.seconds("1s", "1d")]
Zone = Annotated[str, validators.time_zone()]
KindPatterns = Annotated[tuple[str, ...], validators.kind_patterns()]
WeeklyTimes = Annotated[tuple[WeeklyTime, ...], validators.weekly_times()]
EndingRate = Annotated[Rate, validators.rate()]
LogFormat = Literal["auto", "json", "console"]
StartLost = Annotated[Literal["off", "show", "end"], validators.choice("off", "show", "end")]
WorkerLost = Annotated[Literal["off", "fail", "action"], validators.choice("off", "fail", "action")]
RequeueLimit = Annotated[int, validators.whole(1, 1_000_000)]

KeyPath = tuple[str, ...]
"""The keys that lead to a value from the top of the file; positions in arrays as digits."""


class DaemonSettings(BaseSettings):
    """The settings of the daemon as a whole. Reads neither the environment nor a file by itself."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True, hide_input_in_errors=True)

    interval_seconds: Annotated[float, validators.seconds("1s", "7d")] = 60
    timeout_seconds: Threshold = 21600
    stall_seconds: Threshold = 1800
    batch_size: Annotated[int, validators.whole(1, 100_000)] = 1000
    breaker_min: Annotated[int, validators.whole(1, 1_000_000_000)] = 50
    breaker_share: Annotated[float, validators.share()] = 0.5
    restart_grace_seconds: Annotated[float, validators.seconds("0s", "1d"), Field(alias="restart_grace")] = 60
    # A survey reads every running job once, and the newest event of each candidate. For 100,000 jobs that takes well
    # under a second with the right index, and minutes over a huge event table without it. A shorter limit would mean
    # that such a source is never reaped; without a limit, a bad query plan would load the database for hours.
    statement_timeout_seconds: Annotated[float, validators.seconds("1s", "1d")] = 300
    connect_timeout_seconds: Annotated[float, validators.seconds("1s", "10m")] = 5
    http_host: Annotated[str, validators.host()] = "127.0.0.1"
    http_port: Annotated[int, validators.whole(0, 65535)] = 9469
    http_token_file: FilePath | None = None
    http_allowed_hosts: Hosts = ()
    state_dir: FilePath | None = None
    log_level: Annotated[str, validators.choice("debug", "info", "warning", "error", "critical")] = "info"
    log_format: Annotated[LogFormat, validators.choice("auto", "json", "console")] = "auto"
    log_file: FilePath | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KindTable(_Table):
    """`[kinds.NAME]`: thresholds of one kind of job."""

    timeout_seconds: Threshold | None = None
    stall_seconds: Threshold | None = None


class PurgeTable(_Table):
    """`[sources.NAME.purge]`: how long finished jobs are kept, and when older ones are deleted."""

    cron: Annotated[str, validators.cron()] | None = None
    days_to_keep: Annotated[int, validators.whole(1, 3650)] = 30
    batch_size: Annotated[int, validators.whole(1, 100_000)] = 1000


class SourceTable(_Table):
    """`[sources.NAME]`: one database with jobs. None: the value for all sources applies."""

    database_url: DatabaseUrl | None = None
    database_url_file: FilePath | None = None
    profile: Text | None = None
    search_path: Schemas | None = None
    action: Name | None = None
    timeout_seconds: Threshold | None = None
    stall_seconds: Threshold | None = None
    max_age_seconds: Threshold | None = None
    broker_url: BrokerUrl | None = None
    broker_url_file: FilePath | None = None
    broker_deadline_seconds: Deadline | None = None
    worker_absence_seconds: Absence | None = None
    queues: Names | None = None
    close_interrupted_at_start: Switch | None = None
    close_interrupted_window_seconds: Window | None = None
    close_interrupted_holder: Name | None = None
    close_interrupted_only_server: Switch | None = None
    resume_at_start: Switch | None = None
    resume_window_seconds: Window | None = None
    start_lost: StartLost | None = None
    worker_lost: WorkerLost | None = None
    requeue_limit: RequeueLimit | None = None
    time_zone: Zone | None = None
    never: KindPatterns | None = None
    quiet: WeeklyTimes | None = None
    most: EndingRate | None = None
    observe: Switch | None = None
    kinds: Mapping[str, KindTable] = {}
    purge: PurgeTable = PurgeTable()


class RawSettings(DaemonSettings):
    """Everything that can be set: the daemon's settings, the values for all sources, and the tables of the file."""

    database_url: DatabaseUrl | None = None
    database_url_file: FilePath | None = None
    profile: Text = "protea"
    action: Name = "fail"
    max_age_seconds: Threshold | None = None
    broker_url: BrokerUrl | None = None
    broker_url_file: FilePath | None = None
    # Every sweep sends one inspection to all workers, and waits this long for their replies.
    broker_deadline_seconds: Deadline = 5
    # A worker in warm shutdown no longer replies, but still works on its tasks. This is how long they may take.
    worker_absence_seconds: Absence = 300
    queues: Names = ("celery",)
    close_interrupted_at_start: Switch = False
    close_interrupted_window_seconds: Window = 300
    close_interrupted_holder: Name | None = None
    close_interrupted_only_server: Switch = False
    resume_at_start: Switch | None = None
    resume_window_seconds: Window | None = None
    start_lost: StartLost = "show"
    worker_lost: WorkerLost = "off"
    requeue_limit: RequeueLimit = 3
    time_zone: Zone | None = None
    never: KindPatterns = ()
    quiet: WeeklyTimes = ()
    most: EndingRate | None = None
    observe: Switch = False
    kinds: Mapping[str, KindTable] = {}
    sources: Annotated[
        Mapping[Annotated[str, validators.source_name()], SourceTable], validators.tables_or_empty_array()
    ] = {}
    profiles: Mapping[str, dict[str, Any]] = {}


RENAMED_SETTINGS = {
    "resume_at_start": "close_interrupted_at_start",
    "resume_window_seconds": "close_interrupted_window_seconds",
}
"""Settings that had another name: the old one, which is still taken with a warning, and the new one."""

TABLE_SETTINGS = frozenset({"kinds", "sources", "profiles"})
"""Settings that only the file can have."""


def field_names(table: type[BaseModel]) -> dict[str, Any]:
    """The keys of a table, as the file spells them, and their types."""
    return {field.alias or name: field.annotation for name, field in table.model_fields.items()}


SCALAR_SETTINGS = frozenset(field_names(RawSettings)) - TABLE_SETTINGS
"""Settings that flags and the environment can give too."""
