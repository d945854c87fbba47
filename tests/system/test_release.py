"""scripts/build_release.py: the same bytes wherever and whenever it runs, and what its bill of materials names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lock_files import environments, read, run_locks
from packaging.markers import default_environment

from reaper import __version__
from tests.support.commands import PROJECT, environment

MOMENT = "1750000000"
WRITTEN = {f"job_reaper-{__version__}{ending}" for ending in (".tar.gz", "-py3-none-any.whl", ".cdx.json")}


@dataclass(frozen=True)
class Release:
    said: str
    files: dict[str, bytes]


def build(
    project: Path, folder: Path, given: Mapping[str, str], umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(project / "scripts/build_release.py"), "--directory", str(folder)]
    return subprocess.run(
        words, env=environment(given), capture_output=True, text=True, check=False, timeout=120, umask=umask, cwd="/"
    )


def released(project: Path, folder: Path, *, umask: int = 0o022, **given: str) -> Release:
    done = build(project, folder, {"SOURCE_DATE_EPOCH": MOMENT, **given}, umask)
    assert done.returncode == 0, done.stderr
    return Release(done.stdout, {path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return released(PROJECT, tmp_path_factory.mktemp("release") / "dist")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources elsewhere, written in another order at another time, in no repository."""
    folder = tmp_path_factory.mktemp("elsewhere") / "a copy"
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in sorted(filter(None, listed), reverse=True):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
            (folder / name).chmod(0o700 if os.access(PROJECT / name, os.X_OK) else 0o600)
            os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    return folder


@pytest.mark.thorough
def test_two_builds_are_the_same_bytes(release: Release, copy: Path, tmp_path: Path) -> None:
    other = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": ""}
    again = released(copy, tmp_path / "dist", umask=0o077, **other)
    assert release.files.keys() == WRITTEN
    assert {name for name, content in release.files.items() if again.files[name] != content} == set()
    assert again.said == release.said


def test_hashes_of_the_files_are_printed(release: Release) -> None:
    said = {name: digest for digest, _, name in (line.partition("  ") for line in release.said.splitlines())}
    assert said == {name: hashlib.sha256(content).hexdigest() for name, content in release.files.items()}


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (None, "the moment of the last commit is not known"),
        ("yesterday", "SOURCE_DATE_EPOCH: expected seconds since 1970, not 'yesterday'"),
    ],
)
def test_build_without_a_moment_is_refused(copy: Path, tmp_path: Path, moment: str | None, message: str) -> None:
    done = build(copy, tmp_path / "dist", {"SOURCE_DATE_EPOCH": moment} if moment else {})
    assert done.returncode == 1 and f"build_release.py: nothing was built: {message}" in done.stderr
    assert not (tmp_path / "dist").exists()


# --- the bill of materials -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill(release: Release) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(release.files[f"job_reaper-{__version__}.cdx.json"])
    return found


def test_bill_is_valid_cyclonedx(release: Release) -> None:
    text = release.files[f"job_reaper-{__version__}.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_bill_names_the_wheel_beside_it(release: Release, bill: dict[str, Any]) -> None:
    program = bill["metadata"]["component"]
    wheel = release.files[f"job_reaper-{__version__}-py3-none-any.whl"]
    assert program["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel).hexdigest()}]
    assert program["purl"] == f"pkg:pypi/job-reaper@{__version__}"
    assert bill["metadata"]["timestamp"] == "2025-06-15T15:06:40+00:00"


def test_bill_names_each_locked_package_of_the_program_with_all_its_hashes(bill: dict[str, Any]) -> None:
    named = {
        (component["purl"], component["properties"][0]["value"]): {each["content"] for each in component["hashes"]}
        for component in bill["components"]
    }
    expected = {
        (f"pkg:pypi/{package.name}@{package.version}", path.stem): set(package.hashes)
        for path in run_locks()
        for package in read(path)
        if any(package.applies(place) for place in environments())
    }
    assert named == expected
    optional = {
        component["properties"][0]["value"] for component in bill["components"] if component["scope"] == "optional"
    }
    assert optional == {"celery", "embedded", "mysql"}


def test_bill_states_the_licence_of_each_package_that_is_installed_here(bill: dict[str, Any]) -> None:
    here = {key: str(value) for key, value in default_environment().items()}
    installed = {package.name for path in run_locks() for package in read(path) if package.applies(here)}
    stated = {component["name"]: component.get("licenses", []) for component in bill["components"]}
    assert {name for name in installed if not stated[name]} == set()
    assert stated["click"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert stated["packaging"] == [{"expression": "Apache-2.0 OR BSD-2-Clause"}]
    assert stated["jinja2"] == [{"license": {"name": "BSD License"}}]
