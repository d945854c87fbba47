"""scripts/install.sh below a folder, and the files that it installs. On a whole host, with pip: test_host.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lock_files import read, run_locks

from tests.support.commands import environment
from tests.support.daemons import PROJECT
from tests.support.distributions import lent_packages, wheel
from tests.support.waiting import wait_until

UNITS = ("reaper.service", "reaper@.service")
INSTALL = PROJECT / "scripts" / "install.sh"
PARTS = ("reaper", "scripts", "config", "docs", "locks", "systemd", "pyproject.toml", "README.md", "LICENSE")
"""What the installer needs of a checkout."""


def needs(program: str) -> str:
    """The program's path. Skips the test where it is missing; fails it in CI."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{program} is not installed")
    return found


def run(*words: object, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], env=environment(given), capture_output=True, text=True, check=False, timeout=280
    )


# --- the files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_exposed_to_little(unit: str) -> None:
    analyze = needs("systemd-analyze")
    # In tenths.
    result = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=12", PROJECT / "systemd" / unit)
    assert result.returncode == 0, result.stdout[-200:]
    assert float(re.search(r"exposure level for .*: ([0-9.]+) ", result.stdout)[1]) <= 1.2  # type: ignore[index]


def test_template_differs_from_the_unit_in_what_belongs_to_an_instance() -> None:
    unit, template = (_meant(PROJECT / "systemd" / name) for name in UNITS)
    assert [
        line.replace("%i.", "reaper.").replace("-instances/%i", "").replace("/%i", "").replace(" (%i)", "")
        for line in template
    ] == unit


def _meant(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# --- below a folder ------------------------------------------------------------------------------------------


class Installed:
    """What one installation below a folder left there."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.checkout = folder / "prefix", folder / "checkout"
        self.checkout.mkdir()
        subprocess.run(["cp", "-R", *(PROJECT / part for part in PARTS), self.checkout], check=True)
        with (self.checkout / "scripts/lib.sh").open("a", encoding="utf-8") as functions:
            functions.write(lent_packages())
        self.install()

    def install(self, *words: str) -> str:
        command = (self.checkout / "scripts/install.sh", "--prefix", self.prefix, *words)
        # What is compiled takes a third of the time, and is hardly used here.
        result = run(*command, PIP_COMPILE="0")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def reaper(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The installed command, as the installation says that it is called."""
        etc = self.prefix / "etc/reaper"
        # Not the project's own code.
        given = {"REAPER_CONFIG": str(etc / "reaper.toml"), "CREDENTIALS_DIRECTORY": str(etc), "PYTHONPATH": ""}
        return run(self.prefix / "usr/local/bin/reaper", *words, **given)

    def files(self) -> dict[str, int]:
        """Each file's mode, but for the program's own."""
        found = (path for path in self.prefix.rglob("*") if path.is_file() and "releases" not in path.parts)
        return {str(path.relative_to(self.prefix)): path.stat().st_mode & 0o777 for path in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("installed")
    yield Installed(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_everything_is_below_the_folder_and_says_so(installed: Installed) -> None:
    prefix = installed.prefix
    files = installed.files()
    assert files["etc/reaper/reaper.toml"] == 0o640
    assert files["opt/reaper/bin/reaper-as-service"] == 0o755
    assert files["etc/reaper/http_token"] == files["etc/reaper/database_url"] == 0o600
    unit = (prefix / "usr/local/lib/systemd/system/reaper.service").read_text(encoding="utf-8")
    assert f"ExecStart={prefix}/opt/reaper/bin/reaper run" in unit
    assert f"LoadCredential=database_url:{prefix}/etc/reaper/database_url" in unit
    assert not re.search(r"(?:^|[ =:])/(?:opt|etc)/reaper", unit, re.MULTILINE)
    assert re.fullmatch(r"admin:[0-9a-f]{64}\n", (prefix / "etc/reaper/http_token").read_text(encoding="utf-8"))


def test_installed_program_runs_with_the_files_of_its_folder(installed: Installed, thorough: bool) -> None:
    (installed.prefix / "etc/reaper/database_url").write_text("postgresql://nobody:geheim@127.0.0.1:1/nowhere\n")
    shown = installed.reaper("config", "show")
    assert shown.returncode == 0, shown.stderr
    assert "credential database_url" in shown.stdout
    assert "geheim" not in shown.stdout
    # Nothing of the checkout is used.
    where = "from importlib.util import find_spec as find; print(find('reaper').origin, find('reaper.web.ui').origin)"
    python = installed.prefix / "opt/reaper/current/bin/python"
    assert str(PROJECT) not in run(python, "-I", "-c", where).stdout
    if thorough:
        assert installed.reaper("check").returncode == 75


def test_units_have_nothing_that_systemd_does_not_know(installed: Installed) -> None:
    analyze = needs("systemd-analyze")
    folder = installed.prefix / "usr/local/lib/systemd/system"
    # A manual page that the machine does not have is no business of the unit's.
    result = run(analyze, "verify", "--man=no", "--recursive-errors=no", *(folder / unit for unit in UNITS))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_second_installation_changes_nothing_that_an_administrator_may_have_edited(installed: Installed) -> None:
    configuration = installed.prefix / "etc/reaper/reaper.toml"
    configuration.write_text('interval_seconds = "5s"\n')
    token = (installed.prefix / "etc/reaper/http_token").read_text(encoding="utf-8")
    release = (installed.prefix / "opt/reaper/current").readlink()
    said = installed.install()
    assert "is up to date" in said
    assert f"{configuration} is kept as it is" in said
    assert configuration.read_text(encoding="utf-8") == 'interval_seconds = "5s"\n'
    assert (installed.prefix / "etc/reaper/http_token").read_text(encoding="utf-8") == token
    assert (installed.prefix / "opt/reaper/current").readlink() == release


def test_log_rotation_stays_as_the_administrator_edited_it(installed: Installed) -> None:
    rotation = installed.prefix / "etc/logrotate.d/reaper"
    shipped = installed.prefix / "opt/reaper/share/doc/reaper/reaper.logrotate"
    fresh = rotation.read_text(encoding="utf-8")
    assert f"{installed.prefix}/var/log/reaper/*.log" in fresh
    edited = fresh.replace("rotate 8", "rotate 400")
    rotation.write_text(edited)
    assert f"{rotation} is kept as it is; the file of this version is {shipped}" in installed.install()
    assert rotation.read_text(encoding="utf-8") == edited
    # As an earlier version would have shipped it.
    shipped.write_text(edited)
    assert "rotat" not in installed.install()
    assert rotation.read_text(encoding="utf-8") == fresh


def test_sysusers_and_tmpfiles_are_understood(installed: Installed, tmp_path: Path) -> None:
    library = installed.prefix / "usr/local/lib"
    needs("systemd-sysusers")
    if os.geteuid() != 0:
        pytest.skip("only root may make files of another user")
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", library / "sysusers.d/reaper.conf")
    assert made.returncode == 0, made.stderr
    assert re.search(r"^reaper:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    text = (PROJECT / "systemd/reaper.tmpfiles").read_text(encoding="utf-8")
    (tmp_path / "etc/reaper/archive").mkdir(parents=True)
    for name in ("reaper.toml", "reaper.env", "database_url", "http_token", "archive/database_url"):
        (tmp_path / "etc/reaper" / name).touch(0o644)
    conf = tmp_path / "reaper.conf"
    conf.write_text(text)
    made = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", conf)
    assert made.returncode == 0, made.stderr
    modes = {name: (tmp_path / "etc/reaper" / name).stat().st_mode & 0o777 for name in ("reaper.toml", "reaper.env")}
    assert modes == {"reaper.toml": 0o640, "reaper.env": 0o600}
    for name in ("database_url", "http_token", "archive/database_url"):
        assert (tmp_path / "etc/reaper" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "var/log/reaper").stat().st_mode & 0o777 == 0o750


def test_uninstall_removes_the_program_and_keeps_what_an_administrator_wrote(installed: Installed) -> None:
    said = installed.install("--uninstall")
    assert str(installed.prefix / "etc/reaper") in said
    assert installed.files().keys() == {f"etc/reaper/{name}" for name in ("reaper.toml", "database_url", "http_token")}
    installed.install("--uninstall")


def test_uninstall_with_purge_leaves_nothing(installed: Installed) -> None:
    installed.install("--uninstall", "--purge")
    assert list(installed.prefix.iterdir()) == []


def test_uninstall_removes_nothing_where_nothing_is_installed(tmp_path: Path) -> None:
    for folder in ("opt", "etc/logrotate.d", "usr/local/lib/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    result = run(INSTALL, "--prefix", tmp_path, "--uninstall", "--purge")
    assert (result.returncode, result.stdout) == (0, f"Nothing is installed below {tmp_path}.\n")
    assert sorted(tmp_path.rglob("*")) == before


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prefx"], "unknown option '--prefx'"),
        (["--prefix"], "--prefix: expected a directory"),
        (["--purge"], "--purge: only together with --uninstall"),
        (["--instance"], "--instance: expected a name"),
        (["--instance", "a.b"], "expected a name of letters, digits, - and _ (other than reaper), not 'a.b'"),
        (["--instance", "reaper"], "not 'reaper'"),
        (["--instance", "a", "--prefix", "/tmp/a"], "--instance: cannot be combined with another option"),
        (["--prefix", "/tmp/a b"], "has characters with a special meaning in unit files"),
    ],
)
def test_wrong_option_is_refused_and_nothing_is_done(words: list[str], message: str) -> None:
    result = run(INSTALL, *words)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("opt/reaper/program", ""),
        ("usr/local/bin/reaper", "#!/bin/sh\n"),
        ("etc/logrotate.d/reaper", "/var/log/grim/*.log {\n weekly\n}\n"),
        ("etc/systemd/system/reaper.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
        ("usr/lib/systemd/system/reaper@.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
    ],
)
def test_files_of_another_program_under_our_names_are_neither_replaced_nor_removed(
    tmp_path: Path, path: str, text: str
) -> None:
    other = tmp_path / path
    other.parent.mkdir(parents=True)
    other.write_text(text)
    before = sorted(tmp_path.rglob("*"))
    result = run(INSTALL, "--prefix", tmp_path)
    named = other.parent if path.startswith("opt") else other
    assert result.stderr == f"install.sh: {named} is another program's; move it away first\n"
    assert (result.returncode, result.stdout) == (1, "")
    (tmp_path / "etc/reaper").mkdir(parents=True)
    assert run(INSTALL, "--prefix", tmp_path, "--uninstall", "--purge").returncode == 0
    assert other.read_text() == text
    assert {path for path in before if path.is_file()} == {path for path in tmp_path.rglob("*") if path.is_file()}


def test_scripts_find_their_folder_despite_cdpath(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for script in ("install.sh", "manage.sh"):
        words = ["bash", f"scripts/{script}", "--help"]
        env = environment({"CDPATH": str(tmp_path)})
        assert subprocess.run(words, cwd=PROJECT, env=env, capture_output=True, check=False).returncode == 0


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with an installation of another version, and `tmp` beside it."""
    (tmp_path / "tmp").mkdir()
    program = tmp_path / "prefix/opt/reaper"
    old = program / "releases/old/bin/reaper"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho old\n")
    old.chmod(0o755)
    (program / "current").symlink_to("releases/old")
    return tmp_path


def leaves_the_old_one(folder: Path) -> bool:
    program = folder / "prefix/opt/reaper"
    assert run(program / "current/bin/reaper").stdout == "old\n"
    assert [path.name for path in (program / "releases").iterdir()] == ["old"]
    return list((folder / "tmp").iterdir()) == []


@pytest.mark.thorough
def test_failed_installation_leaves_the_old_one_as_it_was(older: Path) -> None:
    """Here pip finds another file than the one that is locked."""
    first = read(run_locks()[0])[0]
    wheel(older / "index", first.name.replace("-", "_"), first.version, text="import os")
    swapped = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(older / "index")}
    result = run(INSTALL, "--prefix", older / "prefix", TMPDIR=str(older / "tmp"), **swapped)
    assert result.returncode == 1
    assert "install.sh: pip failed: " in result.stderr and "DO NOT MATCH THE HASHES" in result.stderr
    assert leaves_the_old_one(older)


def test_terminated_installation_leaves_the_old_one_as_it_was(older: Path, installed: Installed) -> None:
    checkout = older / "checkout"
    subprocess.run(["cp", "-R", installed.checkout, checkout], check=True)
    with (checkout / "scripts/lib.sh").open("a", encoding="utf-8") as functions:
        functions.write("install_locked() { sleep 600; }\n")
    words: list[str | Path] = [checkout / "scripts/install.sh", "--prefix", older / "prefix"]
    env = environment({"TMPDIR": str(older / "tmp")})
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(lambda: list((older / "tmp").glob("*/pip.log")), "what pip would write", 120)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert leaves_the_old_one(older)
