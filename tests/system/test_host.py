"""Installed on a host, under a real systemd: the unit as it is shipped, with all its restrictions."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from tests.conftest import TEMPLATE
from tests.support.daemons import PROJECT, fetch, free_port
from tests.support.databases import TemporaryDatabases
from tests.support.distributions import lent_packages, site_packages
from tests.support.hosts import ASKED_EVERY_SECONDS, Host, booted, unsupported_reason
from tests.support.protea import Protea
from tests.support.waiting import stays_true, wait_until

INSTALL = "/srv/reaper/scripts/install.sh"
NEWER = "/tmp/newer/scripts/install.sh"
IMPORTED = (
    "from importlib import import_module as load; from reaper.cli.main import COMMANDS;"
    " modules = ('daemon.main', *('cli.' + command.replace('-', '_') for command in COMMANDS));"
    " [load(f'reaper.{name}') for name in modules]"
)
"""What the installed daemon and its commands import."""
PACKAGES = "/srv/packages"
DROP_IN = "/etc/systemd/system/reaper.service.d/test.conf"


@pytest.fixture(scope="module")
def host(server: PrivatePostgreSQL, thorough: bool) -> Iterator[Host]:
    """A host on which the daemon has been installed once, and which reaches the tests' server as its own.

    With --thorough pip fetches the packages, as it does for test_packaging always.
    """
    if (reason := unsupported_reason()) is not None:
        pytest.skip(reason)
    socket = Path(parse_qs(urlsplit(server.url).query)["host"][0])
    # The daemon's user is not the server's.
    socket.chmod(0o711)
    (socket / ".s.PGSQL.5432").chmod(0o777)
    with booted({socket: "/srv/database", PROJECT: "/srv/checkout", site_packages(): PACKAGES}) as made:
        made("mkdir", "-p", "/srv/reaper/logs")
        parts = ("reaper", "scripts", "config", "docs", "locks", "systemd", "pyproject.toml", "README.md", "LICENSE")
        made("cp", "-R", *(f"/srv/checkout/{part}" for part in parts), "/srv/reaper")
        if not thorough and _runs_the_packages_of_the_tests(made):
            lend_packages_to(made, "/srv/reaper")
        # A root whose files no other user may read, as many hosts have it. Of what is installed, only what the daemon
        # and the commands import is compiled: a third of the installation's time.
        said = made("sh", "-c", f"umask 077; PIP_COMPILE=0 exec {INSTALL}", seconds=280)
        assert "systemctl enable --now reaper" in said
        made("/opt/reaper/current/bin/python", "-c", IMPORTED)
        yield made


def _runs_the_packages_of_the_tests(host: Host) -> bool:
    tag = "import sys; print(sys.implementation.cache_tag)"
    return host("python3", "-c", tag) == sys.implementation.cache_tag


def lend_packages_to(host: Host, checkout: str) -> None:
    host("tee", "--append", f"{checkout}/scripts/lib.sh", text=lent_packages(PACKAGES))


class Service:
    """The installed service, with the database of a test."""

    unit = "reaper.service"

    def __init__(self, host: Host, database: str) -> None:
        self.host, self.port = host, free_port()
        self.url = f"postgresql://postgres@/{urlsplit(database).path[1:]}?host=/srv/database&port=5432"
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
        self.host.wait_for_unit(self.unit, ActiveState="active", SubState="running")

    @property
    def pid(self) -> int:
        return int(self.host.unit_properties(self.unit, "MainPID")["MainPID"])

    def status(self, words: str, seconds: float = 30) -> None:
        """Wait until systemd shows this status."""
        wait_until(
            lambda: words in self.host.unit_properties(self.unit, "StatusText")["StatusText"],
            f"STATUS {words}",
            seconds,
            interval_seconds=ASKED_EVERY_SECONDS,
        )

    def clear(self) -> None:
        # Not loaded any more after the last test.
        self.host.run("systemctl", "stop", self.unit)
        self.host("rm", "-rf", str(Path(DROP_IN).parent))
        self.host("systemctl", "daemon-reload")
        self.host.run("systemctl", "reset-failed", self.unit)


@pytest.fixture
def service(host: Host, protea: Protea) -> Iterator[Service]:
    made = Service(host, protea.url)
    yield made
    made.clear()


def test_installation_names_every_step_that_is_left_to_do(host: Host, service: Service, protea: Protea) -> None:
    host("rm", "/etc/reaper/database_url")
    commands = next_of(host(INSTALL))
    assert [command.split()[0] for command in commands] == ["cat", "/usr/local/bin/reaper", "systemctl", "systemctl"]
    dead = protea.stale()
    protea.connection.execute("CREATE INDEX ON job (status)")
    host("sh", "-c", commands[0], text=f"{service.url}\n")
    for command in commands[1:]:
        host("sh", "-c", command)
    assert host.unit_properties(service.unit, "ActiveState", "SubState") == {
        "ActiveState": "active",
        "SubState": "running",
    }
    assert host("systemctl", "is-enabled", service.unit) == "enabled"
    wait_until(lambda: protea.status(dead) == "failed", "a reap")
    service.status("default: swept, 0 running")
    assert fetch(service.port, "/live")[0] == 200


def next_of(said: str) -> list[str]:
    """The commands that an installation names."""
    lines = said.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.endswith("Next:")]
    return [line.split("#")[0].strip() for line in lines[start + 1 :]]


@pytest.mark.thorough
def test_release_that_the_service_user_cannot_run_is_installed_again_by_the_first_of_two_at_once(
    host: Host, service: Service
) -> None:
    host("sh", "-c", "chmod 0700 /opt/reaper /opt/reaper/* /opt/reaper/releases/*")
    # The shell ends with the worse of the two.
    both = f"{INSTALL} >/tmp/one 2>&1 & {INSTALL} >/tmp/two 2>&1; two=$?; wait $! && exit $two"
    done = host.run("bash", "-c", both, seconds=280)
    said = [host("cat", f"/tmp/{name}") for name in ("one", "two")]
    assert done.returncode == 0, said
    assert sorted(text.splitlines()[0].split()[0] for text in said) == ["Installing", "The"]
    service.start()


def test_command_typed_by_root_does_what_the_service_would(
    host: Host, service: Service, protea: Protea, thorough: bool
) -> None:
    """In a fresh shell, with nothing set: as the runbook has it."""
    protea.connection.execute("CREATE INDEX ON job (status)")
    service.drop_in('Environment=REAPER_INTERVAL_SECONDS=7 "REAPER_BREAKER_MIN=8" REAPER_BATCH_SIZE=5')
    host.write("/etc/reaper/reaper.env", "# ours\nREAPER_BATCH_SIZE='77'\nREAPER_DATABASE_URL\n")
    service.start()
    assert host("reaper", "halt").startswith("HALTED by admin")
    if thorough:
        assert host.run("reaper", "state").returncode == 3
    protea.stale()  # which the daemon leaves alone now
    assert "1 stale" in host("reaper", "sweep", "--source", "default", "--dry-run")
    assert host("reaper", "restart") == "RUNNING"
    # What root says itself goes before.
    shown = host("env", "REAPER_BREAKER_MIN=9", "reaper", "config", "show")
    values = {"interval_seconds": "7s", "batch_size": "77", "breaker_min": "9", "state_dir": "/var/lib/reaper"}
    for name, value in values.items():
        assert re.search(rf"^{name} +{value} ", shown, re.MULTILINE), shown
    assert "credential database_url" in shown
    host("rm", "/etc/reaper/reaper.env")


@pytest.mark.thorough
def test_command_typed_by_root_runs_as_the_service_user_and_leaves_nothing(host: Host, service: Service) -> None:
    service.start()
    run = "PGHOST=elsewhere REAPER_HTTP_PORT=0 reaper run >/tmp/by-hand 2>&1 & echo $!"
    pid = host("sh", "-c", run)
    wait_until(lambda: "Reaper starts." in host("cat", "/tmp/by-hand"), "a daemon by hand")

    def of(number: object) -> tuple[list[str], set[str]]:
        status = host("cat", f"/proc/{number}/status")
        identity = re.findall(r"^(?:Uid|Gid|Groups|NoNewPrivs):.*", status, re.MULTILINE)
        environment = set(host("cat", f"/proc/{number}/environ").rstrip("\0").split("\0"))
        return identity, {line for line in environment if re.match("HOME|USER|LOGNAME|STATE_D|REAPER_C|PG", line)}

    assert of(pid) == of(service.pid)
    assert host("ls", "/run/reaper") == ""
    host("rmdir", "/run/reaper")
    assert host("sh", "-c", "umask 0; reaper --version").startswith("reaper ")
    assert host("stat", "-c", "%a %U:%G", "/run/reaper") == "700 root:root"
    # It is the process that was started: signals and exit status are its own.
    host("kill", "-TERM", pid)
    wait_until(lambda: "Reaper has stopped." in host("cat", "/tmp/by-hand"), "its end")
    assert host("setpriv", "--reuid=nobody", "--clear-groups", "reaper", "--version").startswith("reaper ")
    host("ln", "-s", "/opt/reaper/bin/reaper-as-service", "/tmp/reaper@none")
    refused = host.run("/tmp/reaper@none", "state")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "reaper@none: /etc/reaper/none.toml: there is no such file, so there is no instance none\n"


@pytest.fixture(scope="class")
def started(host: Host, databases: TemporaryDatabases) -> Iterator[Service]:
    """Started once, with all that a service may need, from files that were written under any umask."""
    with databases.temporary(TEMPLATE) as url:
        service = Service(host, url)
        host("chown", "root:root", "/etc/reaper/reaper.toml")
        host("chmod", "0600", "/etc/reaper/reaper.toml")
        host("chmod", "0644", "/etc/reaper/database_url")
        # Until then, too, no other user can read them.
        read = host.run("setpriv", "--reuid=nobody", "--clear-groups", "cat", "/etc/reaper/database_url")
        assert read.returncode == 1
        python = "/opt/reaper/current/bin/python"
        imports = "import celery, jinja2, kombu, pydantic_core, pymysql, reaper.dev.demo, reaper.liveness.celery"
        child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True)"
        service.drop_in(f'ExecStartPre={python} -c "{imports}"\nExecStartPre={python} -c "{child}"')
        service.start()
        yield service
        service.clear()


class TestStarted:
    def test_everything_that_the_service_may_need_works_behind_its_restrictions(self, started: Service) -> None:
        assert fetch(started.port, "/")[0] == 200
        assert fetch(started.port, "/metrics")[0] == 200
        assert fetch(started.port, "/ready")[0] == 200

    def test_service_has_no_other_privileges_than_its_user_and_no_other_process_sees_its_secrets(
        self, host: Host, started: Service
    ) -> None:
        status = dict(line.split(":", 1) for line in host("cat", f"/proc/{started.pid}/status").splitlines())
        assert set(status["Uid"].split()) == {host("id", "-u", "reaper")}
        assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"].strip() == "1"
        assert host("stat", "-c", "%U %a", "/etc/reaper/database_url", "/etc/reaper/http_token") == "root 600\nroot 600"
        assert host.run("setpriv", "--reuid=reaper", "--clear-groups", "cat", "/etc/reaper/http_token").returncode != 0
        # No other process sees its secrets.
        environment = host("cat", f"/proc/{started.pid}/environ")
        assert "postgresql" not in environment
        assert "CREDENTIALS_DIRECTORY=/run/credentials/reaper.service" in environment

    def test_files_that_were_written_under_any_umask_are_put_right_at_the_start(
        self, host: Host, started: Service
    ) -> None:
        modes = host("stat", "-c", "%G %a", "/etc/reaper", "/etc/reaper/reaper.toml", "/etc/reaper/database_url")
        assert modes == "reaper 750\nreaper 640\nroot 600"


@pytest.mark.thorough
def test_reload_puts_a_new_configuration_into_force_and_keeps_the_old_one_when_it_is_wrong(
    host: Host, service: Service
) -> None:
    service.start()
    pid = service.pid
    service.configure("batch_size = 7")
    host("systemctl", "reload", service.unit)
    wait_until(lambda: "Reaper has a new configuration." in host.event_log(service.unit), "the reload")
    service.configure("batch_size = 0")
    assert host.run("systemctl", "reload", service.unit).returncode != 0
    host.wait_for_unit(service.unit, ActiveState="active")
    assert service.pid == pid
    # Who has asked sees why; so does who looks at it later, also in what matters alone of the journal.
    [reason] = re.findall(r"^/etc/reaper/reaper\.toml:4: batch_size: .*$", host.event_log(service.unit), re.MULTILINE)
    seen = host.run("systemctl", "status", "--full", service.unit).stdout
    assert f"]: {reason}\n" in seen
    service.status("new configuration refused, the old one stays: /etc/reaper/reaper.toml:")
    errors = host("journalctl", "--unit", service.unit, "--priority=err", "--output=cat", "--no-pager").splitlines()
    assert [line for line in errors if line.startswith("{")] == [
        line for line in host.event_log(service.unit).splitlines() if "Reaper refused the new configuration" in line
    ]
    assert reason in errors
    service.configure()
    host("systemctl", "reload", service.unit)
    service.status("default: swept")
    assert "refused" not in host.unit_properties(service.unit, "StatusText")["StatusText"]


def test_wrong_configuration_is_not_tried_again(host: Host, service: Service) -> None:
    service.configure("intervall_seconds = 5")
    assert host.run("systemctl", "restart", service.unit).returncode != 0
    host.wait_for_unit(service.unit, ActiveState="failed", Result="exit-code", ExecMainStatus="78", NRestarts="0")
    assert "did you mean" in host.event_log(service.unit)


def test_secret_that_was_not_filled_in_is_named(host: Host, service: Service) -> None:
    service.secret("database_url", "")
    assert host.run("systemctl", "restart", service.unit).returncode != 0
    host.wait_for_unit(service.unit, ActiveState="failed", ExecMainStatus="78")
    assert "credential database_url" in host.event_log(service.unit)


def test_secret_whose_file_is_missing_is_not_tried_again(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=100ms\nLoadCredential=broker_url:/etc/reaper/broker_url")
    assert host.run("systemctl", "restart", service.unit).returncode != 0
    host.wait_for_unit(service.unit, ActiveState="failed", ExecMainStatus="243", NRestarts="0")


@pytest.mark.thorough
def test_killed_daemon_is_started_again(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=100ms")
    service.start()
    host("kill", "-KILL", str(service.pid))
    host.wait_for_unit(service.unit, NRestarts="1", ActiveState="active")


@pytest.mark.thorough
def test_hanging_daemon_is_ended_by_the_watchdog_and_started_again(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=100ms\nWatchdogSec=3s\nTimeoutAbortSec=1s")
    service.start()
    pid = service.pid
    # Long enough for a watchdog that gets no WATCHDOG message.
    stays_true(lambda: service.pid == pid, "the same process", 4, interval_seconds=0.5)
    host("kill", f"-{signal.SIGSTOP.value}", str(pid))
    wait_until(lambda: service.pid not in (0, pid), "another process")
    assert "Watchdog timeout" in host.event_log(service.unit)
    host.wait_for_unit(service.unit, ActiveState="active")


@pytest.mark.thorough
def test_database_that_is_away_does_not_make_the_start_fail(host: Host, service: Service) -> None:
    service.drop_in("TimeoutStartSec=6s")
    service.secret("database_url", "postgresql://nobody@127.0.0.1:1/nowhere")
    host("systemctl", "start", "--no-block", service.unit)
    service.status("default: database away", seconds=60)
    pid = service.pid
    stays_true(
        lambda: host.unit_properties(service.unit, "SubState")["SubState"] == "start" and service.pid == pid,
        "the start",
        7,
        interval_seconds=1,
    )
    service.secret("database_url", service.url)
    service.start()


@pytest.mark.thorough
def test_log_file_is_rotated_and_no_line_is_lost(host: Host, service: Service, protea: Protea) -> None:
    log = "/var/log/reaper/reaper.log"
    service.configure(f'log_file = "{log}"')
    host("rm", "-f", log)
    protea.stale()
    # Root's own sweep comes first, and makes the file.
    assert "Reaped 1 stale job" in host("env", "REAPER_RESTART_GRACE=0", "reaper", "sweep")
    assert host("stat", "-c", "%U", log) == "reaper"
    service.start()
    host("logrotate", "--force", "--state", "/tmp/rotated", "/etc/logrotate.d/reaper")
    assert "Reaper starts." in host("cat", f"{log}.1")
    host("systemctl", "reload", service.unit)
    wait_until(lambda: "Reaper has a new configuration." in host("cat", log), "a line in the new file")
    assert host("stat", "-c", "%U %G %a", log, f"{log}.1") == "reaper reaper 600\nreaper reaper 600"
    host("logrotate", "--force", "--state", "/tmp/rotated", "/etc/logrotate.d/reaper")
    assert "Reaper has a new configuration." in host("cat", f"{log}.1")
    assert "Reaper starts." in host("zcat", f"{log}.2.gz")


@pytest.mark.thorough
def test_instances_have_a_configuration_secrets_and_state_of_their_own(
    host: Host, service: Service, protea: Protea
) -> None:
    service.start()
    # The plain one keeps a halt under this name.
    unit, folder = "reaper@halted.service", "/etc/reaper/halted"
    commands = next_of(host("sh", "-c", f"umask 077; {INSTALL} --instance halted"))
    host("sh", "-c", commands[0], text=f"{service.url}\n")
    identity = host(
        "stat", "-c", "%n %G %a", folder, f"{folder}.toml", f"{folder}/database_url", f"{folder}/http_token"
    )
    assert identity.replace(folder, "").split("\n") == [
        " root 700",
        ".toml reaper 640",
        "/database_url root 600",
        "/http_token root 600",
    ]
    written = host("cat", f"{folder}.toml", f"{folder}/database_url", f"{folder}/http_token")
    host(INSTALL, "--instance", "halted")
    assert host("cat", f"{folder}.toml", f"{folder}/database_url", f"{folder}/http_token") == written
    assert "\nhttp_port = 9470\n" in written
    port = free_port()
    host.write(f"{folder}.toml", f'interval_seconds = "1s"\nhttp_port = {port}\n[sources.other]\n')
    try:
        protea.connection.execute("CREATE INDEX ON job (status)")
        for command in commands[1:]:
            host("sh", "-c", command)
        shown = host.unit_properties(unit, "ActiveState", "StatusText", "Description")
        assert shown["ActiveState"] == "active"
        assert shown["Description"] == "Stale job reaper (halted)"
        # Two reapers of one database: the second stands by.
        assert shown["StatusText"].startswith("other: stands by")
        assert (fetch(port, "/live")[0], fetch(service.port, "/live")[0]) == (200, 200)
        owners = host("stat", "-c", "%U", "/var/lib/reaper-instances/halted", "/var/log/reaper/halted")
        assert owners == "reaper\nreaper"
        # systemd walks this path as root, so no other user may put a link on it.
        assert host("stat", "-c", "%U %a", "/var/lib", "/var/lib/reaper-instances") == "root 755\nroot 755"
        service.start()
        assert host("reaper", "state").startswith("RUNNING")
        host("reaper@halted", "halt")
        assert host("reaper", "state").startswith("RUNNING")
    finally:
        host("systemctl", "disable", "--now", unit)


def test_installation_completes_what_a_full_disk_left_out(host: Host) -> None:
    folder = "/etc/reaper/full"
    host("mkdir", folder)
    host("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder)
    try:
        host.run("sh", "-c", f"head -c 4096 /dev/zero >{folder}/filler")
        failed = host.run(INSTALL, "--instance", "full")
        assert (failed.returncode, f"{folder}/http_token cannot be written" in failed.stderr) == (1, True)
        assert host("ls", folder) == "filler"
        host("rm", f"{folder}/filler")
        host(INSTALL, "--instance", "full")
        assert re.fullmatch(r"admin:[0-9a-f]{64}", host("cat", f"{folder}/http_token"))
    finally:
        host("umount", folder)
        host("sh", "-c", f"rm -r {folder} {folder}.toml /usr/local/bin/reaper@full")


# --- the last words: after these nothing is installed any more -------------------------------------------------


@pytest.fixture
def newer(host: Host) -> Iterator[Host]:
    """Another version of the project, by one line of its text. Its installer fetches no packages: the first has."""
    host("cp", "-R", "/srv/reaper", "/tmp/newer")
    host("sh", "-c", "echo '# newer' >>/tmp/newer/reaper/__init__.py")
    if _runs_the_packages_of_the_tests(host):
        lend_packages_to(host, "/tmp/newer")
    yield host
    host("rm", "-rf", "/tmp/newer")


@pytest.mark.thorough
def test_release_that_does_not_come_up_is_taken_back(newer: Host, service: Service) -> None:
    host, unit = newer, "/usr/local/lib/systemd/system/reaper.service"
    service.start()
    host("sed", "-i", "s/^def run(/def run_(/", "/tmp/newer/reaper/daemon/main.py")
    host("sh", "-c", "echo '# newer' >>/tmp/newer/systemd/reaper.service")
    before = host("readlink", "/opt/reaper/current"), host("cat", unit)
    # The installer is killed in its last steps; the next run rolls it back.
    killed = f"{NEWER} & until [ $(readlink /opt/reaper/current) != {before[0]} ]; do sleep 0.05; done; kill -9 $!"
    host("env", "PIP_COMPILE=0", "sh", "-c", killed, seconds=280)
    done = host.run("env", "PIP_COMPILE=0", NEWER, seconds=280)
    assert done.returncode == 1
    assert "An installation was interrupted; the previous one is restored first." in done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith("install.sh: reaper.service did not start with the new program (see journalctl -u ")
    assert (host("readlink", "/opt/reaper/current"), host("cat", unit)) == before
    assert host("ls", "/opt/reaper/releases") == before[0].removeprefix("releases/")
    host.wait_for_unit(service.unit, ActiveState="active", SubState="running")


@pytest.mark.thorough
def test_upgrade_restarts_what_runs_and_leaves_the_configuration_alone(newer: Host, service: Service) -> None:
    host = newer
    service.start()
    pid, before = service.pid, host("cat", "/etc/reaper/reaper.toml", "/etc/reaper/http_token")
    old = host("readlink", "/opt/reaper/current")
    host(NEWER, seconds=280)
    assert service.pid not in (0, pid)
    host.wait_for_unit(service.unit, ActiveState="active")
    assert host("cat", "/etc/reaper/reaper.toml", "/etc/reaper/http_token") == before
    assert host("ls", "/opt/reaper/releases") == host("readlink", "/opt/reaper/current").removeprefix("releases/")
    assert host("readlink", "/opt/reaper/current") != old


@pytest.mark.thorough
def test_interrupted_upgrade_gives_running_daemons_the_old_release(newer: Host, service: Service) -> None:
    host = newer
    service.start()
    old = host("readlink", "/opt/reaper/current")
    # A start waits a minute for its database: long enough to lose patience.
    service.secret("database_url", "postgresql://nobody@127.0.0.1:1/nowhere")
    interrupted = f"""
        {NEWER} & until [ $(systemctl show -p SubState --value reaper) = start ]; do sleep 0.1; done
        kill -TERM $!; wait $!"""
    assert host.run("sh", "-c", interrupted, seconds=280).returncode == 128 + signal.SIGTERM
    assert host("readlink", "/opt/reaper/current") == old
    assert host("ls", "/opt/reaper/releases") == old.removeprefix("releases/")
    host.wait_for_unit(service.unit, SubState="start")
    # systemd says so before the program is executed.
    python = f"/opt/reaper/{old}/bin/python"
    wait_until(lambda: python in host("cat", f"/proc/{service.pid}/cmdline"), "a daemon of the old release")


def test_uninstalled_nothing_runs_and_purged_nothing_is_left(host: Host, service: Service) -> None:
    service.drop_in("RestartSec=4s")
    service.start()
    host("systemctl", "enable", service.unit)
    host(INSTALL, "--instance", "failed")
    host.run("systemctl", "enable", "--now", "reaper@failed")
    host.wait_for_unit("reaper@failed.service", ActiveState="failed")
    host("mount", "-t", "tmpfs", "tmpfs", "/var/log/reaper")
    host("touch", "/var/log/reaper/reaper.log")
    kept = f"/etc/reaper /var/lib/reaper /var/lib/reaper-instances /var/log/reaper {Path(DROP_IN).parent}"
    assert f"Kept: {kept}" in host(INSTALL, "--uninstall")
    assert host("systemctl", "list-units", "--all", "--plain", "--no-legend", "reaper*") == ""
    assert host.run("systemctl", "cat", service.unit).returncode != 0
    host(INSTALL, "--uninstall")
    assert {"database_url", "http_token", "reaper.toml"} <= set(host("ls", "/etc/reaper").split())
    # A process still runs as its user.
    pid = host("sh", "-c", "setpriv --reuid=reaper --clear-groups sleep 600 >/dev/null 2>&1 & echo $!")
    refused = host.run(INSTALL, "--uninstall", "--purge")
    assert refused.returncode == 1
    assert "nothing else is done" in refused.stderr
    assert "database_url" in host("ls", "/etc/reaper")
    host("kill", pid)
    wait_until(lambda: host.run("kill", "-0", pid).returncode, "the end of what works as its user")
    host(INSTALL, "--uninstall", "--purge")
    assert host("ls", "-A", "/var/log/reaper") == ""
    host("umount", "/var/log/reaper")
    host("rm", "-r", "/var/log/reaper")
    left = host("find", "/etc", "/opt", "/usr/local", "/var/lib", "/var/log", "/run", "-name", "*reaper*")
    # The private PostgreSQL of root, which other tests may have started on this machine, is no part of an installation.
    assert set(left.split()) <= {"/var/lib/reaper-postgresql"}
    assert host.run("id", "reaper").returncode != 0


def test_user_and_command_of_others_are_neither_used_nor_removed(host: Host) -> None:
    command = "/usr/local/bin/reaper"
    host("useradd", "--create-home", "--shell", "/bin/bash", "reaper")
    refused = host.run(INSTALL)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the user reaper can log in (shell /bin/bash), so it belongs to a person" in refused.stderr
    host.write(command, "#!/bin/sh\n")
    refused = host.run(INSTALL)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{command} is another program's" in refused.stderr
    said = host(INSTALL, "--uninstall", "--purge")
    assert f"Kept: {command}, which is another program's" in said
    assert "Kept: the user reaper, which the installation did not create (home /home/reaper, shell /bin/bash)" in said
    host("test", "-e", command)
    host("id", "reaper")
