"""Builds the release: sdist and wheel, the same bytes each time, and the wheel's bill of materials.

The moment that the archives state is SOURCE_DATE_EPOCH; without it, that of the last commit. The wheel is built from
the sdist.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bill_of_materials import NotAsLocked, bill_of
from lock_files import PROJECT, LockError


class _Failed(Exception):
    """The release cannot be built."""


def build(folder: Path) -> list[Path]:
    """The files written: sdist, wheel, bill."""
    epoch_seconds = _epoch_seconds()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        sdist = _built("sdist", PROJECT, Path(scratch) / "sdist", epoch_seconds)
        with tarfile.open(sdist) as packed:
            packed.extractall(Path(scratch) / "sources", filter="data")
        [sources] = (Path(scratch) / "sources").iterdir()
        wheel = _built("wheel", sources, Path(scratch) / "wheel", epoch_seconds)
        name, version, _ = wheel.name.split("-", 2)
        bill = Path(scratch) / f"{name}-{version}.cdx.json"
        bill.write_text(bill_of(wheel, epoch_seconds), encoding="utf-8")
        return [made.replace(folder / made.name) for made in (sdist, wheel, bill)]


def _epoch_seconds() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not given.isascii() or not given.isdigit():
            raise _Failed(f"SOURCE_DATE_EPOCH: expected seconds since 1970, not {given!r}")
        return int(given)
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise _Failed(f"the moment of the last commit is not known ({done.stderr.strip()}): set SOURCE_DATE_EPOCH")
    return int(done.stdout)


def _built(target: str, sources: Path, folder: Path, epoch_seconds: int) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)],
        cwd=sources,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch_seconds)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _Failed(f"the {target} cannot be built: {done.stdout}{done.stderr}")
    [built] = folder.iterdir()
    return built


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=PROJECT / "dist", help="where to (default: dist)")
    try:
        made = build(parser.parse_args(words).directory)
    except (_Failed, LockError, NotAsLocked) as error:
        print(f"build_release.py: nothing was built: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
