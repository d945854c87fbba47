"""Installed on a host, under a real systemd: the unit as it is shipped, with all its restrictions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from reaper.embedded import Embedded
from tests.daemons import PROJECT, fetch, free_port, lasts, until
from tests.hosts import Host, booted, why_not
from tests.support import Protea

INSTALL = "/srv/reaper/scripts/install.sh"
DROP_IN = "/etc/systemd/system/reaper.service.d/test.conf"


@pytest.fixture(scope="module")
def host(server: Embedded) -> Iterator[Host]:
    """A host on which the daemon has been installed once, and which reaches the tests' server as its own."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    socket = Path(parse_qs(urlsplit(server.url).query)["host"][0])
    # The daemon's user is not the server's.
    socket.chmod(0o711)
    (socket / ".s.PGSQL.5432").chmod(0o777)
    with booted({socket: "/srv/database", PROJECT: "/srv/checkout"}) as made:
        made("mkdir", "-p", "/srv/reaper/logs")
        parts = ("reaper", "scripts", "config", "systemd", "pyproject.toml", "README.md", "LICENSE")
        made("cp", "-R", *(f"/srv/checkout/{part}" for part in parts), "/srv/reaper")
        said = made(INSTALL, seconds=280)
        assert "systemctl enable --now reaper" in said
        yield made


class Service:
    """The installed service, with the database of a test."""

    unit = "reaper.service"

    def __init__(self, host: Host, protea: Protea) -> None:
        self.host, self.port = host, free_port()
        self.url = f"postgresql://postgres@/{urlsplit(protea.url).path[1:]}?host=/srv/database&port=5432"
        self.configure()
        self.secret("database_url", self.url)

    def configure(self, text: str = "") -> None:
        settings = f'interval_seconds = "1s"\nrestart_grace = 0\nhttp_port = {self.port}\n{text}\n'
        self.host.write("/etc/reaper/reaper.toml", settings)

    def secret(self, name: str, text: str) -> None:
        self.host.write(f"/etc/reaper/{name}", f"{text}\n")

    def drop_in(self, text: str) -> None:
        self.host("mkdir", "-p", str(Path(DROP_IN).parent))
        self.host.write(DROP_IN, f"[Service]\n{text}\n")
        self.host("systemctl", "daemon-reload")

    def start(self) -> None:
        """Comes back when it is ready."""
        self.host("systemctl", "restart", "--no-block", self.unit)
        self.host.becomes(self.unit, ActiveState="active", SubState="running")

    @property
    def pid(self) -> int:
        return int(self.host.shows(self.unit, "MainPID")["MainPID"])

    def status(self, words: str, seconds: float = 30) -> None:
        """Wait until systemd shows this status."""
        until(lambda: words in self.host.shows(self.unit, "StatusText")["StatusText"], f"STATUS {words}", seconds)

    def clear(self) -> None:
        # Not loaded any more after the last test.
        self.host.run("systemctl", "stop", self.unit)
        self.host("rm", "-rf", str(Path(DROP_IN).parent))
        self.host("systemctl", "daemon-reload")
        self.host.run("systemctl", "reset-failed", self.unit)


@pytest.fixture
def service(host: Host, protea: Protea) -> Iterator[Service]:
    made = Service(host, protea)
    yield made
    made.clear()


def test_what_the_installation_names_next_is_all_that_is_left_to_do(
    host: Host, service: Service, protea: Protea
) -> None:
    host("rm", "/etc/reaper/database_url")
    said = host(INSTALL).splitlines()
    commands = [line.split("#")[0].strip() for line in said[said.index("Installed. Next:") + 1 :]]
    assert [command.split()[0] for command in commands] == [
        "cat",
        "CREDENTIALS_DIRECTORY=/etc/reaper",
        "systemctl",
        "systemctl",
    ]
    dead = protea.stale()
    protea.connection.execute("CREATE INDEX ON job (status)")
    host("sh", "-c", commands[0], text=f"{service.url}\n")
    for command in commands[1:]:
        host("sh", "-c", command)
    assert host.shows(service.unit, "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert host("systemctl", "is-enabled", service.unit) == "enabled"
    until(lambda: protea.status(dead) == "failed", "a reap")
    service.status("default: swept, 0 running")
    assert fetch(service.port, "/live")[0] == 200


def test_everything_that_it_may_need_works_behind_its_restrictions(host: Host, service: Service) -> None:
    python = "/opt/reaper/current/bin/python"
    imports = "import celery, jinja2, kombu, pydantic_core, pymysql, reaper.demo, reaper.witness.celery"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True)"
    service.drop_in(f'ExecStartPre={python} -c "{imports}"\nExecStartPre={python} -c "{child}"')
    service.start()
    assert fetch(service.port, "/")[0] == 200
    assert fetch(service.port, "/metrics")[0] == 200
    assert fetch(service.port, "/ready")[0] == 200


def test_it_is_nobody_but_its_user_and_sees_its_secrets_alone(host: Host, service: Service) -> None:
    service.start()
    status = dict(line.split(":", 1) for line in host("cat", f"/proc/{service.pid}/status").splitlines())
    assert set(status["Uid"].split()) == {host("id", "-u", "reaper")}
    assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert host("stat", "-c", "%U %a", "/etc/reaper/database_url", "/etc/reaper/http_token") == "root 600\nroot 600"
    assert host.run("setpriv", "--reuid=reaper", "--clear-groups", "cat", "/etc/reaper/http_token").returncode != 0
    # What it was given is told to nobody else.
    environment = host("cat", f"/proc/{service.pid}/environ")
    assert "postgresql" not in environment
    assert "CREDENTIALS_DIRECTORY=/run/credentials/reaper.service" in environment


def test_a_reload_puts_a_new_configuration_into_force_and_keeps_the_old_one_when_it_is_wrong(
    host: Host, service: Service
) -> None:
    service.start()
    pid = service.pid
    service.configure("batch_size = 7")
    host("systemctl", "reload", service.unit)
    until(lambda: "Reaper has a new configuration." in host.journal(service.unit), "the reload")
    service.configure("batch_size = 0")
    host("systemctl", "reload", service.unit)
    until(lambda: "Reaper keeps its configuration" in host.journal(service.unit), "the refusal")
    host.becomes(service.unit, ActiveState="active")
    assert service.pid == pid


def test_a_wrong_configuration_is_not_tried_again(host: Host, service: Service) -> None:
    service.configure("intervall_seconds = 5")
    assert host.run("systemctl", "restart", service.unit).returncode != 0
    host.becomes(service.unit, ActiveState="failed", Result="exit-code", ExecMainStatus="78", NRestarts="0")
    assert "did you mean" in host.journal(service.unit)


def test_a_secret_that_was_not_filled_in_is_named(host: Host, service: Service) -> None:
    service.secret("database_url", "")
    assert host.run("systemctl", "restart", service.unit).returncode != 0
    host.becomes(service.unit, ActiveState="failed", ExecMainStatus="78")
    assert "credential database_url" in host.journal(service.unit)


def test_one_that_was_killed_is_started_again(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=100ms")
    service.start()
    host("kill", "-KILL", str(service.pid))
    host.becomes(service.unit, NRestarts="1", ActiveState="active")


def test_one_that_hangs_is_ended_by_the_watchdog_and_started_again(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=100ms\nWatchdogSec=3s\nTimeoutAbortSec=1s")
    service.start()
    pid = service.pid
    # Long enough for a watchdog that nobody tells anything.
    lasts(lambda: service.pid == pid, "the same process", 5)
    host("kill", f"-{signal.SIGSTOP.value}", str(pid))
    until(lambda: service.pid not in (0, pid), "another process")
    assert "Watchdog timeout" in host.journal(service.unit)
    host.becomes(service.unit, ActiveState="active")


def test_a_database_that_is_away_does_not_make_the_start_fail(host: Host, service: Service) -> None:
    service.drop_in("TimeoutStartSec=8s")
    service.secret("database_url", "postgresql://nobody@127.0.0.1:1/nowhere")
    host("systemctl", "start", "--no-block", service.unit)
    service.status("default: database away")
    pid = service.pid
    lasts(lambda: host.shows(service.unit, "SubState")["SubState"] == "start" and service.pid == pid, "the start", 10)
    service.secret("database_url", service.url)
    service.start()


def test_a_log_file_is_rotated_and_no_line_is_lost(host: Host, service: Service) -> None:
    log = "/var/log/reaper/reaper.log"
    service.configure(f'log_file = "{log}"')
    service.start()
    host("logrotate", "--force", "--state", "/tmp/rotated", "/etc/logrotate.d/reaper")
    assert "Reaper starts." in host("cat", f"{log}.1")
    host("systemctl", "reload", service.unit)
    until(lambda: "Reaper has a new configuration." in host("cat", log), "a line in the new file")
    assert host("stat", "-c", "%U %G %a", log, f"{log}.1") == "reaper reaper 600\nreaper reaper 600"
    host("logrotate", "--force", "--state", "/tmp/rotated", "/etc/logrotate.d/reaper")
    assert "Reaper has a new configuration." in host("cat", f"{log}.1")
    assert "Reaper starts." in host("zcat", f"{log}.2.gz")


def test_instances_have_a_configuration_secrets_and_state_of_their_own(
    host: Host, service: Service, protea: Protea
) -> None:
    service.start()
    port = free_port()
    host("mkdir", "-p", "/etc/reaper/archive")
    host.write("/etc/reaper/archive.toml", f'interval_seconds = "1s"\nhttp_port = {port}\n[sources.archive]\n')
    for name, text in {"database_url": service.url, "http_token": "bob:0123456789abcdef0123456789abcdef"}.items():
        host.write(f"/etc/reaper/archive/{name}", f"{text}\n")
    try:
        host("systemctl", "enable", "--now", "reaper@archive")
        told = host.shows("reaper@archive.service", "ActiveState", "StatusText", "Description")
        assert told["ActiveState"] == "active"
        assert told["Description"] == "Stale job reaper (archive)"
        # Two reapers of one database: the second stands by.
        assert told["StatusText"].startswith("archive: stands by")
        assert (fetch(port, "/live")[0], fetch(service.port, "/live")[0]) == (200, 200)
        assert host("stat", "-c", "%U", "/var/lib/reaper/archive", "/var/log/reaper/archive") == "reaper\nreaper"
    finally:
        host("systemctl", "disable", "--now", "reaper@archive")


# --- the last words: after these nothing is installed any more -------------------------------------------------


def test_an_upgrade_restarts_what_runs_and_leaves_the_configuration_alone(host: Host, service: Service) -> None:
    service.start()
    pid, before = service.pid, host("cat", "/etc/reaper/reaper.toml", "/etc/reaper/http_token")
    # Another version of the program, by one line of its text.
    host("cp", "-R", "/srv/reaper", "/tmp/newer")
    host("sh", "-c", "echo '# newer' >>/tmp/newer/reaper/__init__.py")
    old = host("readlink", "/opt/reaper/current")
    host("/tmp/newer/scripts/install.sh", seconds=280)
    assert service.pid not in (0, pid)
    host.becomes(service.unit, ActiveState="active")
    assert host("cat", "/etc/reaper/reaper.toml", "/etc/reaper/http_token") == before
    assert host("ls", "/opt/reaper/releases") == host("readlink", "/opt/reaper/current").removeprefix("releases/")
    assert host("readlink", "/opt/reaper/current") != old


def test_uninstalled_nothing_runs_and_purged_nothing_is_left(host: Host, service: Service) -> None:
    service.start()
    host("systemctl", "enable", service.unit)
    assert "Kept: /etc/reaper /var/lib/reaper /var/log/reaper" in host(INSTALL, "--uninstall")
    assert host.run("systemctl", "cat", service.unit).returncode != 0
    assert {"database_url", "http_token", "reaper.toml"} <= set(host("ls", "/etc/reaper").split())
    host(INSTALL, "--uninstall", "--purge")
    left = host("find", "/etc", "/opt", "/usr/local", "/var/lib", "/var/log", "/run/systemd", "-name", "*reaper*")
    assert left == ""
    assert host.run("id", "reaper").returncode != 0
