"""The environments of public job systems: one for each, in `.venvs/`, with just what its lock names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.programs import PROJECT

_LOCKS = PROJECT / "tests" / "systems" / "locks"


def python_of(name: str) -> Path:
    """The interpreter of a system's environment. It is made again when the lock has changed."""
    folder, lock = PROJECT / ".venvs" / name, _LOCKS / f"{name}.txt"
    python, made_from = folder / "bin" / "python", folder / "made-from.txt"
    if made_from.exists() and made_from.read_bytes() == lock.read_bytes():
        return python
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    words = ("--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock))
    _run(str(python), "-m", "pip", "install", *words)
    made_from.write_bytes(lock.read_bytes())
    return python


def version_of(name: str) -> str:
    """The version of the system itself in its lock."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", (_LOCKS / f"{name}.txt").read_text(), re.MULTILINE)
    assert found, f"{name}: its lock does not name it"
    return found[1]


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
