"""Renews the lock files (scripts/lock_files.py) from pyproject.toml. Asks the package index.

renew_locks.py                    add what is missing, remove what is no longer needed; versions stay
renew_locks.py --upgrade          take the newest version of everything
renew_locks.py --upgrade NAME...  take the newest version of these
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lock_files import BUILD, DEV, LOCKS, PROGRAM, PROJECT, Package, all_locks, platforms, read

_HEAD = """\
# {what}
# Made by scripts/renew_locks.py from pyproject.toml: change that, and run the script again.
"""
_COMPILE = ("pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--no-emit-index-url")
# Installed nowhere: what is asked is whether a wheel with a known hash exists for each package.
_TRY = ("pip", "install", "--quiet", "--dry-run", "--require-hashes", "--no-deps", "--only-binary", ":all:")
# The oldest glibc for which all packages have wheels.
_LIBC = "manylinux_2_28"


class _Failed(Exception):
    """uv could not do it; its own message says why."""


def renew(upgrade: Sequence[str] | None) -> None:
    """Write every lock again. `upgrade` names packages to upgrade; empty: all of them; None: none."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = sorted(declared["project"]["optional-dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        # Everything at once first, so that all locks agree on the versions.
        together = Path(folder) / "together.txt"
        together.write_text("\n".join(path.read_text(encoding="utf-8") for path in all_locks() if path.exists()))
        _uv(*_COMPILE, *_upgrades(upgrade), "pyproject.toml", "--all-extras", "--group", DEV, "-o", str(together))
        _try(together)
        program = _compile(together, "pyproject.toml")
        build = _compile(together, "--group", BUILD)
        dev = _without(_compile(together, "--group", DEV), program | build)
        run = LOCKS / "run"
        locks = {run / f"{PROGRAM}.txt": ("What the program needs.", program)}
        for extra in extras:
            added = _without(_compile(together, "pyproject.toml", "--extra", extra), program)
            locks[run / f"{extra}.txt"] = (f"What the extra `{extra}` adds to {PROGRAM}.txt.", added)
        locks[LOCKS / "dev" / f"{BUILD}.txt"] = ("What builds the program.", build)
        locks[LOCKS / "dev" / f"{DEV}.txt"] = ("What the tests need beside the program, its extras and its build.", dev)
    for path, (what, packages) in locks.items():
        _write(path, what, packages)
    for path in {*run.iterdir()} - locks.keys():
        path.unlink()


def _upgrades(upgrade: Sequence[str] | None) -> list[str]:
    if upgrade is None:
        return []
    return [word for name in upgrade for word in ("--upgrade-package", name)] or ["--upgrade"]


def _compile(together: Path, *what: str) -> dict[Package, str]:
    """The packages of one lock with their text, in the versions of `together`."""
    part = together.with_name("part.txt")
    part.write_bytes(together.read_bytes())  # uv keeps the versions that its output file has
    _uv(*_COMPILE, *what, "-o", str(part))
    packages = read(part)
    texts = _texts(part.read_text(encoding="utf-8"))
    return dict(zip(packages, texts, strict=True))


def _texts(text: str) -> list[str]:
    """The text of each package: its line, and the indented ones below."""
    texts: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(" "):
            texts[-1] += line
        else:
            texts.append(line)
    return texts


def _without(packages: dict[Package, str], others: Iterable[Package]) -> dict[Package, str]:
    return {package: text for package, text in packages.items() if package not in set(others)}


def _write(path: Path, what: str, packages: dict[Package, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD.format(what=what) + "".join(packages.values()), encoding="utf-8")
    print(f"{path.relative_to(PROJECT)}: {len(packages)} packages")


def _try(lock: Path) -> None:
    """Whether all of it can be installed from wheels, wherever it should be."""
    for python, machine in platforms():
        where = ("--python-version", python, "--python-platform", f"{machine}-{_LIBC}")
        _uv(*_TRY, *where, "--target", str(lock.with_name("target")), "-r", str(lock))


def _uv(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *words], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise _Failed(f"uv {' '.join(words)}\n{done.stderr.strip()}")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--upgrade", nargs="*", metavar="NAME", help=argparse.SUPPRESS)
    try:
        renew(parser.parse_args(words).upgrade)
    except _Failed as error:
        print(f"renew_locks.py: no lock was changed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
