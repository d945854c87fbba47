"""Distributions made by hand, as an index or an attacker offers them, and those that the tests run with, lent."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from lock_files import LOCKS, read, run_locks


def wheel(folder: Path, name: str, version: str, *, needs: Sequence[str] = (), text: str = "") -> Path:
    """A wheel with one module, whose content is `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"Requires-Dist: {n}\n" for n in needs)]
    files = {
        f"{name}.py": text,
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(made, "w") as packed:
        for path, content in files.items():
            packed.writestr(path, content)
    return made


def sdist(folder: Path, name: str, version: str, *, builds: str) -> Path:
    """An sdist. `builds` is Python that runs when it is built."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{name}-{version}.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": f"{builds}\n",
    }
    with tarfile.open(made, "w:gz") as packed:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content.encode()))
    return made


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_LENT = """
make_venv() {{ "$(find_python)" -m venv --without-pip --clear "$1"; }}
install_locked() {{
    local target names=({run})
    target=$(echo "${{1%/bin/*}}"/lib/python3*/site-packages)
    if [[ $2 == dev/build ]]; then
        mkdir "$4"
        target=$4 names=({build})
    fi
    (cd {site} && cp -R --preserve=timestamps "${{names[@]}}" "$target")
}}
"""
"""Replaces what fetches packages in a copy of the installer. Bytecode is valid for a file with the same time."""


def lent_packages(folder: object = None) -> str:
    """What makes an installer take the packages of its locks from the tests: the end of its scripts/lib.sh.

    Args:
        folder: The path of `site_packages()` where the installer runs, if it is another one.
    """
    names = {"run": [*(package.name for lock in run_locks() for package in read(lock)), "pip"]}
    names["build"] = [package.name for package in read(LOCKS / "dev/build.txt")]
    words = {key: shlex.join(sorted(_entries(some))) for key, some in names.items()}
    return _LENT.format(site=shlex.quote(str(folder or site_packages())), **words)


def site_packages() -> Path:
    """Where the packages of the tests are."""
    return Path(str(metadata.distribution("pip").locate_file("")))


def _entries(names: Iterable[str]) -> set[str]:
    """What these distributions have at the top of their folder; not their commands, which name another interpreter.

    A lock also names packages that only other systems need: those are not installed here.
    """
    files = [
        file for name in names for found in metadata.distributions(name=name) for file in found.files or ()
        if ".." not in file.parts and (site_packages() / file).exists()
    ]  # fmt: skip
    return {file.parts[0] for file in files} - {"bin", "__pycache__"}
