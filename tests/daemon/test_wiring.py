"""Every setting reaches the object that uses it: from each place that can give it, at the start and after SIGHUP."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from reaper.config import load
from reaper.config.schema import (
    RENAMED_SETTINGS,
    SCALAR_SETTINGS,
    KindTable,
    PurgeTable,
    RawSettings,
    SourceTable,
    field_names,
)
from reaper.daemon import main as process
from reaper.daemon import startup_recovery
from reaper.database.lease import ttl_for
from reaper.errors import ConfigError
from reaper.liveness.celery import CeleryProbe
from reaper.observers import status
from reaper.operations.close_interrupted import CloseInterruptedOptions
from reaper.operations.end_in_batches import BulkOptions
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.parameters import RuleParameters
from tests.support.daemons import Daemon, free_port
from tests.support.protea import Protea
from tests.support.waiting import wait_until

AWAY = "postgresql://someone@127.0.0.1:1/nothing"
"""No server listens there: each sweep fails at once, and nothing here needs one."""
ELSEWHERE = "postgresql://someone@127.0.0.1:1/elsewhere"
BROKER = "redis://127.0.0.1:1/0"
TOKEN = "a-token-for-tests-0123456789"
RESTART_ONLY = frozenset({"http_host", "http_port", "state_dir", "log_file"})


class Running:
    """A daemon in this process, made and started as `reaper run` does it, and what its parts were given."""

    def __init__(self, environ: Mapping[str, str], closings: list[Closing]) -> None:
        self.closings = closings
        self.daemon = process.Daemon(load({}, environ))

    @property
    def runner(self) -> SourceRunner:
        [runner] = self.daemon.supervisor.runners
        return runner

    @property
    def sources(self) -> list[Source]:
        """The source as sweeps use it, as readers over HTTP use it, and as the closing at the start uses it."""
        reading = self.daemon.service.registry[self.runner.name].reading
        return [self.runner.source, reading, *(closing.source for closing in self.closings)]

    def each(self, of: Callable[[Source], object]) -> object:
        """What all of them say; a list of what they say when they differ."""
        found = [of(source) for source in self.sources]
        return found[0] if all(one == found[0] for one in found) else found

    @property
    def witness(self) -> CeleryProbe:
        witness = self.runner.source.options.probe
        assert isinstance(witness, CeleryProbe)
        return witness

    def purging(self) -> tuple[Any, Any] | None:
        return self.daemon.supervisor.scheduled_purges.get(self.runner.name)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.daemon.metrics.registry.get_sample_value(name, labels)


@dataclass(frozen=True)
class Closing:
    """What the closing at the start was given."""

    source: Source
    downtime: DowntimeTracker
    options: CloseInterruptedOptions
    bulk: BulkOptions


def same(*values: object) -> object:
    """The value that all of them have, or all of them where they differ."""
    return values[0] if all(value == values[0] for value in values) else values


def interval(r: Running) -> object:
    lease = r.runner.lease.ttl_seconds / ttl_for(r.runner.retry_schedule.interval_seconds)
    assert lease == 1
    return same(
        r.runner.retry_schedule.interval_seconds,
        r.sample("reaper_interval_seconds"),
        r.daemon.status.interval_seconds,
    )


def batch_size(r: Running) -> object:
    return same(r.runner.options.batch_size, *(closing.bulk.batch_size for closing in r.closings))


def restart_grace(r: Running) -> object:
    return same(
        r.runner.downtime.grace_seconds,
        *(closing.downtime.grace_seconds for closing in r.closings),
    )


def systemd_patience(r: Running, statement: float, connect: float, deadline: float = 5) -> None:
    """How long a sweep may stand still before WATCHDOG is no longer sent."""
    assert r.daemon.systemd.stall_limit_seconds == 2 * (statement + connect) + deadline + 60


def statement_timeout(r: Running) -> object:
    systemd_patience(r, r.runner.source.timeouts.statement, 5)
    return r.each(lambda source: source.timeouts.statement)


def connect_timeout(r: Running) -> object:
    systemd_patience(r, 300, r.runner.source.timeouts.connect)
    return r.each(lambda source: source.timeouts.connect)


def used(source: Source) -> RuleParameters:
    return source.statements.rule_parameters


def timeout(r: Running) -> object:
    found = r.each(lambda source: same(source.thresholds.timeout.seconds, used(source).thresholds.timeout.seconds))
    return same(found, r.daemon.service.settings.sources[r.runner.name].thresholds.timeout.seconds)


def stall(r: Running) -> object:
    return r.each(lambda source: same(source.thresholds.stall.seconds, used(source).thresholds.stall.seconds))


def kind(r: Running) -> object:
    def of(source: Source) -> object:
        limits = used(source).thresholds.kinds.get("embed")
        return limits and (limits.timeout and limits.timeout.seconds, limits.stall and limits.stall.seconds)

    return r.each(of)


def host(r: Running) -> object:
    return re.sub(r"^http://|:\d+$", "", r.daemon.http.address if r.daemon.http else "")


def port(r: Running) -> object:
    return int(r.daemon.http.address.rpartition(":")[2]) if r.daemon.http else 0


def closes(r: Running) -> object:
    return bool(r.closings)


def window(r: Running) -> object:
    return same(*(closing.options.window_seconds for closing in r.closings)) if r.closings else None


def purge_cron(r: Running) -> object:
    found = r.purging()
    return found and found[1].cron


def purge_days(r: Running) -> object:
    found = r.purging()
    return found and found[0].options.days_to_keep


def purge_batch(r: Running) -> object:
    found = r.purging()
    return found and found[0].options.batch_size


def deadline(r: Running) -> object:
    systemd_patience(r, 300, 5, r.witness.deadline_seconds)
    return r.witness.deadline_seconds


def queues(r: Running) -> object:
    return same(
        frozenset(r.runner.source.options.queues), r.witness.expected_queues, frozenset(r.sources[1].options.queues)
    )


VULS = {"profile": "vuls", "broker_url": BROKER}


@dataclass(frozen=True)
class SettingCase:
    """One setting: a value that is not its default, as it is given and as the daemon's parts have it.

    `besides` are other settings that it takes. Words in capitals stand for what differs from run to run.
    """

    given: object
    seen: object
    see: Callable[[Running], object]
    besides: Mapping[str, object] = field(default_factory=dict)


def url(source: Source) -> object:
    return source.engine.url.database


def quiet_times(source: Source) -> object:
    return [str(time) for time in source.options.quiet.times]


def cap(source: Source) -> object:
    return source.options.cap and str(source.options.cap.most)


def worker_lost(running: Running) -> object:
    return running.each(lambda source: (source.options.gone_after_seconds, source.options.worker_lost_action))


def requeue_limit(running: Running) -> object:
    return running.each(lambda source: source.options.requeue_limit and source.options.requeue_limit.limit)


CLOSE = {"close_interrupted_at_start": True, "close_interrupted_only_server": True}
LOG = {"profile": "noetl"}

SETTING_CASES: dict[str, SettingCase] = {
    "interval_seconds": SettingCase(1234, 1234, interval),
    "timeout_seconds": SettingCase("2h", 7200, timeout, CLOSE),
    "stall_seconds": SettingCase("11m", 660, stall, CLOSE),
    "batch_size": SettingCase(7, 7, batch_size, CLOSE),
    "breaker_min": SettingCase(77, 77, lambda r: r.runner.options.breaker.minimum),
    "breaker_share": SettingCase(0.25, 0.25, lambda r: r.runner.options.breaker.share),
    "restart_grace": SettingCase("17m", 1020, restart_grace, CLOSE),
    "statement_timeout_seconds": SettingCase("44s", 44, statement_timeout, CLOSE),
    "connect_timeout_seconds": SettingCase("9s", 9, connect_timeout, CLOSE),
    "http_host": SettingCase("127.0.0.9", "127.0.0.9", host, {"http_port": "PORT"}),
    "http_port": SettingCase("PORT", "PORT", port),
    "http_token_file": SettingCase(
        "TOKENS", "alice", lambda r: r.daemon.access_control.tokens.name_of(f"Bearer {TOKEN}")
    ),
    "http_allowed_hosts": SettingCase(
        ["a.example"], True, lambda r: r.daemon.access_control.hosts.admits(["a.example"])
    ),
    "state_dir": SettingCase("FOLDER", "FOLDER", lambda r: str(r.daemon.memory.path and r.daemon.memory.path.parent)),
    "database_url": SettingCase(ELSEWHERE, "elsewhere", lambda r: r.each(url), CLOSE),
    "database_url_file": SettingCase("URL_FILE", "elsewhere", lambda r: r.each(url), CLOSE),
    "profile": SettingCase("noetl", "noetl", lambda r: r.each(lambda source: source.profile.name), CLOSE),
    "action": SettingCase(
        "requeue", "requeue", lambda r: r.each(lambda source: source.options.action), {"profile": "ours"}
    ),
    "time_zone": SettingCase("Asia/Tokyo", "Asia/Tokyo", lambda r: r.each(lambda source: source.profile.zone), CLOSE),
    "never": SettingCase(["migrate_*"], ("migrate_*",), lambda r: r.each(lambda source: source.options.never), CLOSE),
    "quiet": SettingCase("Sun 02:00-04:00 UTC", ["Sun 02:00-04:00 UTC"], lambda r: r.each(quiet_times), CLOSE),
    "most": SettingCase("50 in 10m", "50 in 10m", lambda r: r.each(cap), CLOSE),
    "observe": SettingCase(True, True, lambda r: r.each(lambda source: source.options.observed is not None), CLOSE),
    "max_age_seconds": SettingCase(
        "5h", 18000, lambda r: r.each(lambda source: same(source.options.max_age, used(source).max_age_seconds)), CLOSE
    ),
    "broker_url": SettingCase("redis://127.0.0.1:1/7", "redis://127.0.0.1:1/7", lambda r: r.witness.broker_url, VULS),
    "broker_url_file": SettingCase(
        "BROKER_FILE", "redis://127.0.0.1:1/8", lambda r: r.witness.broker_url, {"profile": "vuls"}
    ),
    "broker_deadline_seconds": SettingCase("2s", 2, deadline, VULS),
    "worker_absence_seconds": SettingCase("1h", 3600, lambda r: r.witness.registry.absence_seconds, VULS),
    "queues": SettingCase(["slow", "fast"], frozenset({"slow", "fast"}), queues, VULS),
    "start_lost": SettingCase("end", "end", lambda r: r.each(lambda source: source.options.start_lost), LOG),
    "worker_lost": SettingCase("action", (90.0, "requeue"), worker_lost, {"profile": "held", "action": "requeue"}),
    "requeue_limit": SettingCase(7, 7, requeue_limit, {"profile": "ours", "action": "requeue"}),
    "close_interrupted_at_start": SettingCase(True, True, closes, {"close_interrupted_only_server": True}),
    "close_interrupted_window_seconds": SettingCase("9m", 540, window, CLOSE),
}

UNSEEN = frozenset({"close_interrupted_holder", "close_interrupted_only_server", *RENAMED_SETTINGS})
"""Proofs, without which there is no closing at the start, and former names: tried where settings are loaded."""

BY_PROCESS = frozenset({"log_level", "log_format", "log_file"})
"""They change the whole process: tried below, with processes of their own."""

TABLES = {
    "[sources.main]": {
        "search_path": SettingCase(
            ["app"], ("app",), lambda r: r.each(lambda source: tuple(source.profile.search_path)), CLOSE
        ),
    },
    "[kinds]": {
        "timeout_seconds": SettingCase("2h", (7200, None), kind, CLOSE),
        "stall_seconds": SettingCase("11m", (None, 660), kind, CLOSE),
    },
    "[sources.main.kinds]": {
        "timeout_seconds": SettingCase("2h", (7200, None), kind, CLOSE),
        "stall_seconds": SettingCase("11m", (None, 660), kind, CLOSE),
    },
    "[sources.main.purge]": {
        "cron": SettingCase("7 3 * * sun", "7", purge_cron),
        "days_to_keep": SettingCase(77, 77, purge_days),
        "batch_size": SettingCase(7, 7, purge_batch),
    },
}
OURS = """
[profiles.ours]
extends = "protea"
[profiles.ours.actions.requeue.set]
status = "queued"
[profiles.held]
extends = "ours"
[[profiles.held.alive]]
witness = "worker"
worker = { table = "job", match = { id = "parent_job_id" }, at = "started_at", gone_after = "90s" }
"""


@dataclass(frozen=True)
class Configuration:
    """A configuration: variables, and a file's text."""

    variables: Mapping[str, str]
    file: str


def spelled(value: object) -> str:
    """As TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace("'", '"')


def lines(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {spelled(value)}\n" for name, value in values.items())


def in_environment(values: Mapping[str, object]) -> Configuration:
    def text(value: object) -> str:
        return ",".join(value) if isinstance(value, list) else str(value).lower() if value is True else str(value)

    return Configuration({f"REAPER_{name.upper()}": text(value) for name, value in values.items()}, OURS)


def in_file(values: Mapping[str, object]) -> Configuration:
    return Configuration({}, lines(values) + OURS)


def in_source(values: Mapping[str, object]) -> Configuration:
    """In the source's own table what can stand there."""
    own = {name: value for name, value in values.items() if name in field_names(SourceTable)}
    shared = {name: value for name, value in values.items() if name not in own}
    return Configuration({}, f"{lines(shared)}[sources.main]\n{lines(own)}{OURS}")


WAYS: Mapping[str, Callable[[Mapping[str, object]], Configuration]] = {
    "environment": in_environment,
    "file": in_file,
    "source": in_source,
}


class DaemonFactory:
    """Makes daemons of one test, and what their settings name."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        self.words: dict[str, object] = {"PORT": free_port(), "FOLDER": str(folder / "state")}
        for word, text in (
            ("TOKENS", f"alice:{TOKEN}\n"),
            ("URL_FILE", ELSEWHERE),
            ("BROKER_FILE", "redis://127.0.0.1:1/8"),
        ):
            path = folder / word.lower()
            path.write_text(text)
            path.chmod(0o600)
            self.words[word] = str(path)

    def real(self, value: object) -> object:
        """What a word in capitals stands for here; anything else as it is."""
        return self.words.get(value, value) if isinstance(value, str) else value

    def environ(self, given: Configuration) -> dict[str, str]:
        config = self.folder / "reaper.toml"
        config.write_text(given.file)
        return {"REAPER_CONFIG": str(config), **given.variables}

    @contextmanager
    def running(self, given: Configuration) -> Iterator[Running]:
        """A daemon that has started, and its first sweep ended."""
        closings: list[Closing] = []

        def close(
            source: Source, downtime: DowntimeTracker, options: CloseInterruptedOptions, bulk: BulkOptions
        ) -> None:
            closings.append(Closing(source, downtime, options, bulk))

        self._monkeypatch.setattr(startup_recovery, "close_interrupted", close)
        made = Running(self.environ(given), closings)
        made.daemon.start()
        made.daemon.startup.join(10)
        try:
            yield made
        finally:
            assert made.daemon.stop()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DaemonFactory:
    return DaemonFactory(tmp_path, monkeypatch)


def base(service: DaemonFactory, names: Sequence[str]) -> dict[str, object]:
    """What a daemon takes to start, without the settings."""
    values = {"http_port": 0, "interval_seconds": 3600, "database_url": AWAY}
    for name in names:
        values |= SETTING_CASES[name].besides
    if "broker_url_file" in names:
        values["broker_url"] = BROKER
    apart = set(names) - {"database_url", *VULS}
    return {each: service.real(value) for each, value in values.items() if each not in apart}


def with_them(service: DaemonFactory, names: Sequence[str]) -> dict[str, object]:
    values = base(service, names)
    for name in names:
        if name.endswith("_url_file"):
            del values[name.removesuffix("_file")]
        values[name] = service.real(SETTING_CASES[name].given)
    return values


def without(service: DaemonFactory, names: Sequence[str]) -> dict[str, object]:
    values = base(service, names)
    if "http_port" in names:
        values["http_port"] = 0
    return values


ALONE = RESTART_ONLY | {
    "action", "broker_deadline_seconds", "broker_url_file", "close_interrupted_at_start",
    "close_interrupted_window_seconds", "database_url_file", "profile", "start_lost",
    # A reload makes the runners again when one of these differs: another one must not be the reason.
    "batch_size", "breaker_min", "breaker_share", "connect_timeout_seconds", "interval_seconds", "restart_grace",
    "statement_timeout_seconds",
}  # fmt: skip
"""Settings that change what is seen of others, or that a reload treats in a way of their own: each by itself."""


def together() -> list[tuple[str, ...]]:
    """The other settings, by what they take besides."""
    groups: dict[str, list[str]] = {}
    for name, case in SETTING_CASES.items():
        if name not in ALONE:
            groups.setdefault(str(case.besides), []).append(name)
    return [tuple(names) for names in groups.values()]


def way_cases() -> list[Any]:
    """All settings by every way that can give them: most in one daemon, and with --thorough each by itself, too."""
    cases = []
    for names in [*together(), *((name,) for name in SETTING_CASES)]:
        ways = [way for way in WAYS if way != "source" or all(name in field_names(SourceTable) for name in names)]
        for way in ways:
            is_tried = len(names) > 1 or (names[0] in ALONE and way == ways[-1])
            marks = [] if is_tried else [pytest.mark.thorough]
            label = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} others"
            cases.append(pytest.param(way, names, id=f"{label}-{way}", marks=marks))
    return cases


@pytest.mark.parametrize(("way", "names"), way_cases())
def test_settings_reach_their_objects_at_the_start_and_after_a_reload(
    way: str, names: tuple[str, ...], service: DaemonFactory
) -> None:
    cases, give = {name: SETTING_CASES[name] for name in names}, WAYS[way]
    given, plain = give(with_them(service, names)), give(without(service, names))
    seen = {name: service.real(case.seen) for name, case in cases.items()}
    with service.running(given) as running:
        assert {name: case.see(running) for name, case in cases.items()} == seen, "at the start"
    with service.running(plain) as running:
        before = {name: case.see(running) for name, case in cases.items()}
        assert [name for name in names if before[name] == seen[name]] == [], "without them"
        with capture_logs() as said:
            running.daemon.reload(lambda: load({}, service.environ(given)))
        assert any(line["event"] == "Reaper has a new configuration." for line in said), said
        waits = any("takes effect only after a restart" in line["event"] for line in said)
        assert waits is (names[0] in RESTART_ONLY)
        if names[0] in RESTART_ONLY or names[0] == "close_interrupted_at_start":
            assert {name: case.see(running) for name, case in cases.items()} == before, "not before a restart"
            return
        if names[0] == "close_interrupted_window_seconds":
            return  # of no use after the start
        assert after_reload(cases, running) == seen, "after a reload"
        running.daemon.reload(lambda: load({}, service.environ(plain)))
        assert after_reload(cases, running) == before, "after a reload that takes it back"


def after_reload(cases: Mapping[str, SettingCase], running: Running) -> dict[str, object]:
    """What was closing at the start was closing with the settings of the start."""
    running.closings.clear()
    return {name: case.see(running) for name, case in cases.items()}


def table_of(where: str, values: Mapping[str, object]) -> Configuration:
    """A source with these values in one of its tables."""
    inner = {"[kinds]": "[kinds.embed]", "[sources.main.kinds]": "[sources.main.kinds.embed]"}.get(where, where)
    text = lines({"http_port": 0, "interval_seconds": 3600})
    own = lines({"database_url": AWAY, **CLOSE})
    header = "" if where == "[sources.main]" else f"{inner}\n"
    return Configuration({}, f"{text}[sources.main]\n{own}{header}{lines(values)}")


@pytest.mark.parametrize(("where", "name"), [(where, name) for where, table in TABLES.items() for name in table])
def test_tables_of_a_source_reach_their_objects_at_the_start_and_after_a_reload(
    where: str, name: str, service: DaemonFactory
) -> None:
    case = TABLES[where][name]
    besides = {"cron": "5 4 * * *"} if "purge" in where and name != "cron" else {}
    given, plain = table_of(where, {**besides, name: case.given}), table_of(where, besides)

    def seen(running: Running) -> object:
        found = case.see(running)
        return found if name != "cron" or found is None else str(found).split()[0]

    with service.running(given) as running:
        assert seen(running) == case.seen, "at the start"
    with service.running(plain) as running:
        before = seen(running)
        assert before != case.seen
        running.daemon.reload(lambda: load({}, service.environ(given)))
        running.closings.clear()
        assert seen(running) == case.seen, "after a reload"
        running.daemon.reload(lambda: load({}, service.environ(plain)))
        assert seen(running) == before, "after a reload that takes it back"


def test_settings_are_all_in_a_table_above() -> None:
    """A setting that is new has to be tried here, too."""
    assert SETTING_CASES.keys() | BY_PROCESS | UNSEEN == SCALAR_SETTINGS
    assert field_names(RawSettings).keys() - SCALAR_SETTINGS == {"kinds", "sources", "profiles"}
    assert field_names(SourceTable).keys() - SETTING_CASES.keys() - UNSEEN == {
        "kinds",
        "purge",
        *TABLES["[sources.main]"],
    }
    assert TABLES["[kinds]"].keys() == TABLES["[sources.main.kinds]"].keys() == field_names(KindTable).keys()
    assert TABLES["[sources.main.purge]"].keys() == field_names(PurgeTable).keys()


# --- what changes the whole process ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["environment", "file"])
def test_log_settings_reach_the_log_at_the_start(way: str, protea: Protea, tmp_path: Path) -> None:
    log = tmp_path / "reaper.log"
    given: dict[str, Any] = {"log_level": "debug", "log_format": "console", "log_file": str(log)}
    config = lines({**(given if way == "file" else {}), "database_url": protea.url})
    with Daemon(tmp_path, config, **(given if way == "environment" else {})) as daemon:
        daemon.comes_up().sweeps_on()
        wait_until(lambda: "Reaper surveyed a source." in log.read_text(), "a line for debugging, in the file")
        assert all(not line.startswith("{") for line in log.read_text().splitlines())
        assert daemon.stderr.read_text() == ""


def test_log_settings_reach_the_log_after_a_reload_but_for_its_file(protea: Protea, tmp_path: Path) -> None:
    log, other = tmp_path / "reaper.log", tmp_path / "other.log"
    base = {"database_url": protea.url, "log_file": str(log)}
    with Daemon(tmp_path, lines({**base, "log_format": "console", "log_level": "debug"})) as daemon:
        daemon.comes_up().sweeps_on()
        daemon.configure(lines({**base, "log_format": "json", "log_level": "error", "log_file": str(other)}))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "takes effect only after a restart" in log.read_text(), "that the file stays")
        protea.connection.execute("ALTER TABLE job RENAME COLUMN status TO state")
        wait_until(lambda: '"event": "Reaper cycle failed"' in log.read_text(), "a line of the new format")
        _, _, after = log.read_text().partition("takes effect only after a restart")
        found = [json.loads(line) for line in after.splitlines()[1:]]
        assert found and {line["level"] for line in found} == {"error"}
        assert not other.exists()


def test_longest_timeout_of_the_metrics_is_the_configured_one(service: DaemonFactory) -> None:
    def given(timeout: str) -> Configuration:
        return in_file(
            {**VULS, "database_url": AWAY, "http_port": 0, "interval_seconds": 3600, "timeout_seconds": timeout}
        )

    with service.running(given("2h")) as running:
        assert running.sample("reaper_longest_timeout_seconds", source="default") == 7200
        running.daemon.reload(lambda: load({}, service.environ(given("3h"))))
        assert running.sample("reaper_longest_timeout_seconds", source="default") == 10800


# --- what the wiring has to refuse, and to keep turning ----------------------------------------------------------


def test_daemon_that_others_could_reach_does_not_start_without_a_token(service: DaemonFactory) -> None:
    given = in_file({"database_url": AWAY, "http_host": "0.0.0.0", "http_port": service.words["PORT"]})
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        process.Daemon(load({}, service.environ(given)))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"http_host": "0.0.0.0"}, "can be reached from other machines"),
        ({"http_token_file": "NONE"}, "cannot read"),
    ],
)
def test_reload_to_settings_that_no_daemon_would_start_with_is_refused(
    wrong: Mapping[str, object], problem: str, service: DaemonFactory
) -> None:
    plain = {"database_url": AWAY, "http_port": service.words["PORT"], "interval_seconds": 3600}
    wrong = {name: str(service.folder / "no-tokens") if value == "NONE" else value for name, value in wrong.items()}
    with service.running(in_file(plain)) as running:
        before = running.runner
        with capture_logs() as said:
            running.daemon.reload(lambda: load({}, service.environ(in_file({**plain, **wrong, "batch_size": 7}))))
        [refusal] = [
            line
            for line in said
            if line["event"] == "Reaper refused the new configuration; the old one stays in force."
        ]
        assert any(problem in line for line in refusal["problems"])
        assert running.runner is before and running.daemon.service.settings.batch_size == 1000


def test_loop_that_turns_is_alive_and_one_that_has_stopped_is_not(
    service: DaemonFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/live` answers by it: Kubernetes ends a daemon whose loop seems to have stopped."""
    with service.running(in_file({"database_url": AWAY, "http_port": 0, "interval_seconds": 3600})) as running:
        running.daemon.tick()
        assert running.daemon.status.alive
        later = time.monotonic() + 60
        monkeypatch.setattr(status, "time", SimpleNamespace(monotonic=lambda: later))
        assert not running.daemon.status.alive
        running.daemon.tick()
        assert running.daemon.status.alive
