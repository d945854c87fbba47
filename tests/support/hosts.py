"""A host in Linux namespaces with a real systemd as its first process (`hosts.sh` makes it)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from tests.support.waiting import wait_until

_SCRIPT = Path(__file__).with_name("hosts.sh")
_SYSTEMD = Path("/lib/systemd/systemd")
_BOOT_SECONDS = 60.0
ASKED_EVERY_SECONDS = 0.25
"""How often a wait asks the host. Each question is three programs, which take 20 ms of the processor."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGE_VARIABLES = re.compile(r"PIP_|SSL_CERT_|(?:HTTPS?|NO)_PROXY$", re.IGNORECASE)


class Host:
    """Runs commands as root of that host."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        # Only the variables that pip needs to reach its package index.
        inherited = {name: value for name, value in os.environ.items() if _PACKAGE_VARIABLES.match(name)}
        self._environment = [f"{name}={value}" for name, value in {**inherited, "PATH": _PATH}.items()]

    def run(self, *words: str, text: str | None = None, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command there; any exit status is accepted. `text` is its standard input."""
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), "--all", "env", "-i", *self._environment, *words],
            input=text, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def __call__(self, *words: str, text: str | None = None, seconds: float = 60) -> str:
        """Run a command there, which must succeed. Returns its output."""
        done = self.run(*words, text=text, seconds=seconds)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        self("tee", path, text=text)

    def unit_properties(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, from systemd."""
        output = self("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in output.splitlines())

    def wait_for_unit(self, unit: str, seconds: float = 45, **expected: str) -> None:
        """Wait until the unit's properties are these."""

        def difference() -> str:
            log = self.run("systemctl", "status", "--full", unit).stdout + self.event_log(unit)[-3000:]
            return f"{unit} is {self.unit_properties(unit, *expected)}, not {expected}: {log}"

        wait_until(
            lambda: self.unit_properties(unit, *expected) == expected,
            difference,
            seconds,
            interval_seconds=ASKED_EVERY_SECONDS,
        )

    def event_log(self, unit: str) -> str:
        return self("journalctl", "--unit", unit, "--output=cat", "--no-pager")


def unsupported_reason() -> str | None:
    """Why this machine cannot run such a host; None when it can."""
    if os.geteuid() != 0:
        return "only root can make such a host"
    if not _SYSTEMD.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("systemd is not installed")
        return "systemd is not installed"
    words = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "sh", "-ec"]
    tries = (
        "mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir groups upper work root; mount -t cgroup2 cgroup2 groups; "
        "mount -t overlay overlay -o lowerdir=/etc,upperdir=upper,workdir=work root"
    )
    tried = subprocess.run([*words, tries], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def booted(mounts: Mapping[Path, str]) -> Iterator[Host]:
    """A booted host. `mounts` maps folders of this machine to paths on the host."""
    folder = Path(tempfile.mkdtemp(prefix="reaper-host-"))
    # The host is killed when this process ends in any way.
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "bash", str(_SCRIPT)]
    words += [str(folder), *(f"{source}:{target}" for source, target in mounts.items())]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            init = wait_until(lambda: _init_below(process, log), "a first process", _BOOT_SECONDS)
            host = Host(init)
            wait_until(
                lambda: host.run("systemctl", "is-system-running").stdout == "running\n",
                "a boot",
                _BOOT_SECONDS,
                interval_seconds=ASKED_EVERY_SECONDS,
            )
            yield host
            os.kill(init, signal.SIGKILL)
            process.wait(30)
        finally:
            process.kill()
    folder.rmdir()


def _init_below(process: subprocess.Popen[bytes], log: IO[str]) -> int:
    """The host's first process, once it is systemd; 0 until then."""
    if process.poll() is not None:
        log.seek(0)
        pytest.fail(f"the host ended with status {process.returncode}: {log.read()}")
    pid = process.pid
    with suppress(FileNotFoundError, ProcessLookupError):  # a setup process may end while it is inspected
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[-1])
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid
    return 0
