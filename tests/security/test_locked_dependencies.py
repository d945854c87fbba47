"""What is installed is what the locks name: a server of packages cannot put another one in its place."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from lock_files import BUILD, DEV, PROGRAM, LockError, Package, all_locks, environments, platforms, read, run_locks
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.commands import PROJECT, environment
from tests.support.distributions import sdist, sha256, wheel
from tests.support.interpreters import claimed

DECLARED: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LIBRARY = PROJECT / "scripts" / "lib.sh"
HERE = {key: str(value) for key, value in default_environment().items()}


# --- who serves the packages ---------------------------------------------------------------------------------


class Installation:
    """A project with one lock, and an index that is an attacker's."""

    def __init__(self, folder: Path) -> None:
        self.index = folder / "index"
        self.target = folder / "target"
        self.lock = folder / "project/locks/run/reaper.txt"
        self.lock.parent.mkdir(parents=True)

    def locked(self, *files: Path) -> None:
        lines = (
            f"{path.name.split('-')[0]}=={path.name.split('-')[1].removesuffix('.tar.gz')} \\\n"
            f"    --hash=sha256:{sha256(path)}\n"
            for path in files
        )
        self.lock.write_text("".join(lines), encoding="utf-8")

    def install(self) -> subprocess.CompletedProcess[str]:
        script = 'root=$1; source "$2"; install_locked "$3" run/reaper --target "$4"'
        words = [self.lock.parents[2], LIBRARY, sys.executable, self.target]
        return subprocess.run(
            ["bash", "-c", script, "bash", *map(str, words)],
            env=environment({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index)}),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    @property
    def installed(self) -> set[str]:
        return {path.name for path in self.target.glob("*.dist-info")}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_file_that_was_swapped_is_refused(installation: Installation, tmp_path: Path) -> None:
    installation.locked(wheel(tmp_path / "honest", "helper", "1.0"))
    wheel(installation.index, "helper", "1.0", text="import os")
    done = installation.install()
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stdout
    assert installation.installed == set()


def test_newer_version_that_an_index_offers_is_not_taken(installation: Installation) -> None:
    installation.locked(wheel(installation.index, "helper", "1.0"))
    wheel(installation.index, "helper", "99.0", text="import os")
    done = installation.install()
    assert (done.returncode, installation.installed) == (0, {"helper-1.0.dist-info"}), done.stdout


def test_file_of_the_same_version_that_no_lock_has_does_not_stop_the_one_that_is_locked(
    installation: Installation, tmp_path: Path
) -> None:
    """A mirror may hold fewer files, and other ones."""
    installation.locked(wheel(tmp_path / "index", "helper", "1.0"))
    sdist(installation.index, "helper", "1.0", builds="raise SystemExit")
    assert installation.install().returncode == 0
    assert installation.installed == {"helper-1.0.dist-info"}


def test_package_that_a_locked_one_asks_for_is_not_installed_unlocked(installation: Installation) -> None:
    installation.locked(wheel(installation.index, "helper", "1.0", needs=["stranger"]))
    wheel(installation.index, "stranger", "1.0")
    assert installation.install().returncode == 0
    assert installation.installed == {"helper-1.0.dist-info"}


def test_sdist_is_not_built_even_with_a_locked_hash(installation: Installation, tmp_path: Path) -> None:
    """A build runs code of its own, with packages that no lock has."""
    ran = tmp_path / "ran"
    installation.locked(sdist(installation.index, "helper", "1.0", builds=f"open({str(ran)!r}, 'w').close()"))
    assert installation.install().returncode != 0
    assert not ran.exists() and installation.installed == set()


def test_scripts_and_image_install_by_hash_or_without_any_index() -> None:
    """The one exception is the released wheel, in the image of a folder without the sources."""
    texts = [*(PROJECT / "scripts").rglob("*.sh"), PROJECT / "config/container/Containerfile"]
    commands = [
        command
        for path in texts
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        if not line.lstrip().startswith("#")
        for command in re.findall(r"\bpip (?:install|download|wheel)\b[^;&|]*", line)
    ]
    by_hash = [command for command in commands if "--require-hashes --no-deps --only-binary :all:" in command]
    without_index = [command for command in commands if "--no-index" in command and "--no-build-isolation" in command]
    assert len(by_hash) == 3 and len(without_index) == 2
    [rest] = [command for command in commands if command not in (*by_hash, *without_index)]
    assert rest.rstrip().endswith("--no-deps --only-binary :all: job-reaper==0.1.0")


# --- what the locks hold -------------------------------------------------------------------------------------


LOCKS = {path.stem: read(path) for path in all_locks()}
EXTRAS: dict[str, list[str]] = DECLARED["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    "text",
    [
        "--index-url https://packages.example.org/simple\n",
        "helper @ https://packages.example.org/helper.whl \\\n    --hash=sha256:" + 64 * "0" + "\n",
        "helper>=1.0 \\\n    --hash=sha256:" + 64 * "0" + "\n",
        "helper==1.0\n",
        "helper==1.0 \\\n    --hash=md5:" + 32 * "0" + "\n",
        "helper==1.0 \\\n    --hash=sha256:" + 64 * "0" + " \\\n",
        "helper==1.0 \\\n# a comment\n",
        "helper==1.0 ; nonsense \\\n    --hash=sha256:" + 64 * "0" + "\n",
        "-r ../other.txt\n",
    ],
)
def test_lock_with_anything_but_versions_and_hashes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.txt").write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match=r"wrong\.txt:?"):
        read(tmp_path / "wrong.txt")


def test_locks_name_no_host() -> None:
    """They hold for every mirror of the package index."""
    for path in all_locks():
        assert not re.search(r"://|--|@", re.sub(r"^    --hash=", "", path.read_text(), flags=re.MULTILINE)), path


def test_every_extra_has_a_lock_and_there_is_no_other() -> None:
    assert [path.stem for path in run_locks()] == [PROGRAM, *sorted(EXTRAS)]
    assert {path.stem for path in (PROJECT / "locks/dev").iterdir()} == {BUILD, DEV}


def test_locks_are_for_every_version_of_python_that_is_claimed() -> None:
    assert set(claimed()) <= {python for python, _ in platforms()}
    assert {machine for _, machine in platforms()} == {"x86_64", "aarch64"}


def test_every_package_has_hashes_and_none_twice() -> None:
    for package in (package for packages in LOCKS.values() for package in packages):
        assert len(package.hashes) == len(set(package.hashes)) > 0, package


def each_place() -> list[Any]:
    """The first and the last place always, the others with --thorough."""
    first, *others, last = environments()
    return [first, *(pytest.param(place, marks=pytest.mark.thorough) for place in others), last]


@pytest.mark.parametrize("place", each_place(), ids=lambda e: f"{e['python_full_version']}-{e['platform_machine']}")
def test_locks_hold_what_pyproject_asks_for_and_nothing_else(place: dict[str, str]) -> None:
    """scripts/renew_locks.py mends it."""
    program = needed(DECLARED["project"]["dependencies"], place)
    assert program == names(PROGRAM, place)
    for extra, lines in EXTRAS.items():
        whole = needed([*DECLARED["project"]["dependencies"], *lines], place)
        assert whole == names(PROGRAM, place) | names(extra, place), extra
    build = needed(group(BUILD), place)
    assert build == names(BUILD, place)
    dev = needed(group(DEV), place)
    assert names(DEV, place) <= dev <= program | build | names(DEV, place)


def test_locks_agree_on_the_version_of_each_package() -> None:
    for place in environments():
        found: dict[str, set[str]] = {}
        for packages in LOCKS.values():
            for package in packages:
                if package.applies(place):
                    found.setdefault(package.name, set()).add(package.version)
        assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}


def group(name: str) -> list[str]:
    """The requirements of a dependency group, with those of the groups that it includes."""
    entries = DECLARED["dependency-groups"][name]
    return [
        line for entry in entries for line in ([entry] if isinstance(entry, str) else group(entry["include-group"]))
    ]


def names(lock: str, place: Mapping[str, str]) -> set[str]:
    return {package.name for package in LOCKS[lock] if package.applies(place)}


def needed(lines: Iterable[str], place: Mapping[str, str]) -> set[str]:
    """The packages that these requirements ask for there, with all that those ask for. Fails at a wrong version."""
    found: set[tuple[str, str]] = set()
    following = [(Requirement(line), "") for line in lines]
    while following:
        requirement, extra = following.pop()
        if requirement.marker and not requirement.marker.evaluate({**place, "extra": extra}):
            continue
        package = locked(canonicalize_name(requirement.name), place)
        assert requirement.specifier.contains(package.version, prereleases=True), f"{requirement}: {package}"
        for asked in {"", *requirement.extras}:
            if (package.name, asked) not in found:
                found.add((package.name, asked))
                following += [(Requirement(line), asked) for line in asks_for(package)]
    return {name for name, _ in found}


def locked(name: str, place: Mapping[str, str]) -> Package:
    everywhere = {package for packages in LOCKS.values() for package in packages if package.name == name}
    [found] = {package for package in everywhere if package.applies(place)} or pytest.fail(f"{name} is not locked")
    return found


def asks_for(package: Package) -> list[str]:
    """What it says itself. Nothing is known of a version that only other platforms and versions of Python get."""
    try:
        installed = distribution(package.name)
    except PackageNotFoundError:
        assert not package.applies(HERE), f"{package.name} is not installed: run scripts/test.sh"
        return []
    if installed.version != package.version:
        assert not package.applies(HERE), f"{package.name} is installed in another version: run scripts/test.sh"
        return []
    return list(installed.requires or ())


# --- renewing them -------------------------------------------------------------------------------------------


class Renewal:
    """A project of its own, whose packages are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.index = folder / "index"
        (self.project / "scripts").mkdir(parents=True)
        for name in ("lock_files.py", "renew_locks.py"):
            shutil.copy(PROJECT / "scripts" / name, self.project / "scripts")
        for name in ("one", "two", "tool"):
            wheel(self.index, name, "1.0")

    def declare(self, *, program: str = "'one'", extras: str = "more = ['two']") -> None:
        (self.project / "pyproject.toml").write_text(
            f"[project]\nname = 'trial'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = [{program}]\n"
            f"[project.optional-dependencies]\n{extras}\n"
            "[dependency-groups]\nbuild = ['tool']\ndev = [{ include-group = 'build' }, 'two']\n",
            encoding="utf-8",
        )

    def renew(self, *words: str) -> subprocess.CompletedProcess[str]:
        given = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(self.index), "UV_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, str(self.project / "scripts/renew_locks.py"), *words],
            env=environment(given), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def locks(self) -> dict[str, list[str]]:
        found = sorted((self.project / "locks").rglob("*.txt"))
        return {path.stem: [f"{each.name}=={each.version}" for each in read(path)] for path in found}


@pytest.fixture
def renewal(tmp_path: Path) -> Renewal:
    made = Renewal(tmp_path)
    made.declare()
    assert made.renew().returncode == 0
    return made


@pytest.mark.thorough
def test_renewal_follows_pyproject_and_keeps_versions_until_it_is_asked(renewal: Renewal) -> None:
    first = {"reaper": ["one==1.0"], "more": ["two==1.0"], "build": ["tool==1.0"], "dev": ["two==1.0"]}
    assert renewal.locks() == first
    for name in ("one", "two"):
        wheel(renewal.index, name, "2.0", needs=["third"])
    wheel(renewal.index, "third", "1.0")
    assert renewal.renew().returncode == 0
    assert renewal.locks() == first
    assert renewal.renew("--upgrade", "one").returncode == 0
    assert renewal.locks() == {**first, "reaper": ["one==2.0", "third==1.0"]}
    assert renewal.renew("--upgrade").returncode == 0
    assert renewal.locks() == {**first, "reaper": ["one==2.0", "third==1.0"], "more": ["two==2.0"], "dev": ["two==2.0"]}
    renewal.declare(program="'two'", extras="another = ['one']")
    assert renewal.renew().returncode == 0
    assert renewal.locks()["reaper"] == ["third==1.0", "two==2.0"]
    assert (renewal.locks()["another"], renewal.locks()["dev"]) == (["one==2.0"], [])
    assert "more" not in renewal.locks()


def test_renewal_that_finds_no_wheel_changes_no_lock(renewal: Renewal) -> None:
    """Where only an sdist is offered, an installation would be refused."""
    before = renewal.locks()
    sdist(renewal.index, "three", "1.0", builds="")
    renewal.declare(program="'one', 'three'")
    done = renewal.renew()
    assert done.returncode == 1 and "no lock was changed" in done.stderr and "three" in done.stderr
    assert renewal.locks() == before
