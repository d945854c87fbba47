"""A forked program cannot be distinguished from an executed one, by what it sees and by how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import ForkedProcess, Process, start, without_settings

PROGRAM = "tests.support.process_state"


def begin(
    folder: Path, *arguments: str, executed: bool = False, given: dict[str, str] | None = None, **options: Any
) -> Process:
    environment = {**without_settings(os.environ), **(given or {})}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = start(PROGRAM, *arguments, environment=environment, folder=folder, executed=executed, **streams)
    assert isinstance(process, ForkedProcess) is not executed
    return process


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"warnings_are_errors": True},
        {"new_session": True},
        {"given": {"REAPER_BATCH_SIZE": "7", "TZ": "Asia/Tokyo", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}},
    ],
    ids=["plain", "warnings", "session", "environment"],
)
def test_forked_program_sees_what_an_executed_one_sees(tmp_path: Path, options: dict[str, Any]) -> None:
    seen = []
    for executed in (True, False):
        with begin(tmp_path, "state", "two words", executed=executed, **options) as process:
            output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        seen.append(json.loads(output))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("executed", [True, False])
class TestEnd:
    def test_exit_status_is_the_programs(self, tmp_path: Path, executed: bool) -> None:
        with begin(tmp_path, "exit", "78", executed=executed) as process:
            assert process.wait(60) == process.poll() == process.returncode == 78

    def test_exception_is_status_1_and_a_traceback_after_the_flushed_output(
        self, tmp_path: Path, executed: bool
    ) -> None:
        with begin(tmp_path, "fail", "lost", executed=executed) as process:
            output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (1, "half a line")
        assert errors.startswith("Traceback") and errors.endswith("LookupError: lost\n")

    def test_signals_reach_the_process_and_are_its_status(self, tmp_path: Path, executed: bool) -> None:
        with begin(tmp_path, "wait", executed=executed) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.1)
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
            process.kill()  # does nothing

    def test_ctrl_c_is_a_keyboard_interrupt(self, tmp_path: Path, executed: bool) -> None:
        with begin(tmp_path, "wait", executed=executed) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt\n")


def test_two_processes_of_one_server_end_independently(tmp_path: Path) -> None:
    with begin(tmp_path, "wait") as first, begin(tmp_path, "exit", "3") as second:
        assert second.wait(60) == 3
        assert first.poll() is None
        first.kill()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONIOENCODING", "LC_ALL", "MALLOC_ARENA_MAX", "UNHEARD_OF"])
def test_variable_that_an_interpreters_start_may_read_makes_the_program_be_executed(tmp_path: Path, name: str) -> None:
    given = {**without_settings(os.environ), name: "ascii"}
    with start(PROGRAM, "exit", "0", environment=given, folder=tmp_path, stderr=subprocess.DEVNULL) as process:
        assert isinstance(process, subprocess.Popen)
        assert process.wait(60) == 0
