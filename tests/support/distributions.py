"""Distributions made by hand, as an index or an attacker offers them, and copies of those that the tests run with."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path


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


def copy_installed(names: Iterable[str], folder: Path) -> None:
    """Copy these distributions, as they are installed here, to another environment's site-packages.

    Bytecode and commands stay behind: the commands have this environment's path in them. A lock also names packages
    that only other systems need: those are not installed here.
    """
    for distribution in (found for name in names for found in metadata.distributions(name=name)):
        for file in distribution.files or ():
            source, target = Path(str(distribution.locate_file(file))), folder / file
            if ".." in file.parts or source.suffix == ".pyc" or not source.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
