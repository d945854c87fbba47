"""The lock files: every package that is installed, in one version, with the SHA-256 of each of its files.

locks/run  what the program needs (reaper.txt), and what each extra adds to it
locks/dev  what builds the program (build.txt), and what its tests need beside all of that (dev.txt)

A file holds what `pip install --require-hashes` reads, and nothing else: no option, no URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from packaging.markers import InvalidMarker, Marker

PROJECT = Path(__file__).parents[1]
LOCKS = PROJECT / "locks"
PROGRAM = "reaper"
BUILD = "build"
DEV = "dev"

_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_MACHINES = ("x86_64", "aarch64")
_REQUIREMENT = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[a-z0-9.]+)(?: ; (?P<marker>[^\\]+))? \\")
_HASH = re.compile(r"    --hash=sha256:(?P<digest>[0-9a-f]{64})(?P<more> \\)?")


class LockError(Exception):
    """A lock file holds something else than packages with hashes."""


@dataclass(frozen=True)
class Package:
    """One version of a distribution. `marker` says where it is installed; empty: everywhere."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def applies(self, environment: Mapping[str, str]) -> bool:
        return not self.marker or Marker(self.marker).evaluate({**environment})


def run_locks() -> tuple[Path, ...]:
    """What users install: the program's lock first, then those of its extras."""
    found = sorted((LOCKS / "run").glob("*.txt"))
    return tuple(sorted(found, key=lambda path: path.stem != PROGRAM))


def all_locks() -> tuple[Path, ...]:
    return (*run_locks(), *(LOCKS / "dev" / f"{name}.txt" for name in (BUILD, DEV)))


def read(path: Path) -> tuple[Package, ...]:
    """The packages of a lock file. Raises LockError, with the line, at anything that pip would read otherwise."""
    lines = list(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    return tuple(_packages(path, [(number, line) for number, line in lines if not line.lstrip().startswith("#")]))


def _packages(path: Path, lines: list[tuple[int, str]]) -> Iterator[Package]:
    while lines:
        number, line = lines.pop(0)
        found = _REQUIREMENT.fullmatch(line)
        if found is None:
            raise LockError(f"{path}:{number}: expected NAME==VERSION and a \\, not {line!r}")
        marker = found["marker"] or ""
        try:
            Marker(marker or "os_name != ''")
        except InvalidMarker as error:
            raise LockError(f"{path}:{number}: {marker!r} is no marker") from error
        yield Package(found["name"], found["version"], marker, tuple(_hashes(path, lines)))


def _hashes(path: Path, lines: list[tuple[int, str]]) -> Iterator[str]:
    while lines:
        number, line = lines.pop(0)
        found = _HASH.fullmatch(line)
        if found is None:
            raise LockError(f"{path}:{number}: expected --hash=sha256: and 64 hex digits, not {line!r}")
        yield found["digest"]
        if not found["more"]:
            return
    raise LockError(f"{path}: ends where a hash was expected")


def without_duplicates(packages: Iterable[Package]) -> list[Package]:
    """The packages of several locks, by name. The same version in two locks is one."""
    ordered = sorted(packages, key=_identity)
    return [next(same) for _, same in groupby(ordered, key=_identity)]


def _identity(package: Package) -> tuple[str, str]:
    return package.name, package.version


def environments() -> list[dict[str, str]]:
    """Where a lock must be complete: both ends of every version of Python, on both kinds of machine."""
    return [
        {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.{patch}",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.{patch}",
            "python_version": python,
            "sys_platform": "linux",
        }
        for python in _PYTHONS
        for patch in (0, 99)
        for machine in _MACHINES
    ]


def platforms() -> Iterator[tuple[str, str]]:
    """Version of Python and kind of machine, for each pair that the locks are for."""
    yield from ((python, machine) for python in _PYTHONS for machine in _MACHINES)
