"""Tests that interrupt a command pass although the process that runs the tests ignores SIGINT."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.commands import PROJECT, environment

_TEST = "tests/support/test_programs.py::TestEnd::test_ctrl_c_is_a_keyboard_interrupt"
"""Interrupts an executed program, and one that is forked. It needs no database, whose start would take seconds."""


def test_interrupting_tests_pass_below_a_parent_that_ignores_sigint(tmp_path: Path) -> None:
    """`nohup` and `&` in a script start what they start so."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t"), _TEST]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", *words],
        cwd=PROJECT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
