"""The versions of Python that the project claims to run on, where this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from tests.support.commands import PROJECT

_CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def claimed() -> list[str]:
    """The versions in the classifiers, such as 3.12."""
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    return [found[1] for line in classifiers if (found := _CLASSIFIER.fullmatch(line))]


def interpreter(version: str) -> str | None:
    """A Python of that version that can be run: from PATH, or built by pyenv. None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    built = sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}")), reverse=True)
    # pyenv's shims have the names of all versions, and fail for those that are not switched on.
    for candidate in (shutil.which(f"python{version}"), *built):
        if candidate and _version_of(candidate) == version:
            return candidate
    return None


def _version_of(program: str) -> str | None:
    words = [program, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
