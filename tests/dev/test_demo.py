"""The demo: that it plays, that it leaves nothing behind, and that it would notice a wrong verdict."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from reaper.dev.demo.checks import Row, check_all
from reaper.dev.demo.display import workers_table
from reaper.dev.demo.main import StopSignal
from reaper.dev.demo.scenarios import DEADLINE, SCENARIOS, STALL, TIMEOUT, Ending
from tests.support.daemons import fetch
from tests.support.waiting import wait_until

PROJECT = Path(__file__).parents[2]
PLAY = "import sys; from reaper.dev.demo import run; sys.exit(run(plain=False))"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts its files: open to all, as /tmp is, and unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="reaper-test-"))
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


def processes_of(folder: Path) -> list[str]:
    """The processes that were started for a demo with this folder, the database's own aside."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(f"TMPDIR={folder}") in environ.read_bytes():
                found.append(environ.parent.joinpath("cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def fetched(port: int) -> str | None:
    try:
        return fetch(port, "/")[1]
    except OSError:
        return None


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo as its user starts it, with settings about that are not meant for it."""
    environment = {**os.environ, "TMPDIR": str(folder), "REAPER_TIMEOUT_SECONDS": "1s", "REAPER_NONSENSE": "1"}
    command = [sys.executable, "-W", "error", "-c", PLAY]
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_demo_ends_with_correct_verdicts_and_leaves_no_process(folder: Path) -> None:
    with demo(folder) as process:
        assert process.stdout is not None
        begun = [process.stdout.readline(), process.stdout.readline()]
        port = re.search(r"^Its page, while it runs: http://127\.0\.0\.1:(\d+)$", begun[1])
        assert port is not None, begun
        page = wait_until(lambda: fetched(int(port[1])), "the page")
        output, _ = process.communicate(timeout=DEADLINE + 60)
    assert process.returncode == 0, output
    assert "<title>" in page and fetched(int(port[1])) is None
    assert re.search(r"^(\d+) of \1 verdicts were right\.$", output, re.MULTILINE)
    assert "\x1b" not in output
    assert "hung: reaped (JobTimeout)" in output
    assert re.search(r"coordinator: spared, succeeded\. .*child job", output)
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_stopped_demo_takes_its_processes_with_it(number: signal.Signals, folder: Path) -> None:
    with demo(folder) as process:
        assert process.stdout is not None
        while "job running" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


def test_killed_it_leaves_no_process_behind(folder: Path) -> None:
    with demo(folder) as process:
        assert process.stdout is not None
        while "job running" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        wait_until(lambda: processes_of(folder) == [], "no process of the demo is left")
    wait_until(
        lambda: all(left.name.startswith("reaper-demo-") for left in folder.iterdir()),
        "only folders of other demos are left",
    )


def test_swallowed_interrupt_is_noticed_at_the_next_frame() -> None:
    with StopSignal() as stop:
        stop.check()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            stop.check()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


EVIDENCE: Mapping[str, Any] = {
    "reason": "JobTimeout",
    "age_seconds": TIMEOUT + 1.0,
    "silence_seconds": STALL + 1.0,
    "timeout_seconds": float(TIMEOUT),
    "stall_seconds": float(STALL),
    "witness": "job_event",
}


def good_rows() -> dict[str, Row]:
    """The jobs of a show in which everything went as it had to."""
    rows = {}
    for part in SCENARIOS:
        name = part.name
        rows[name] = {
            Ending.IN_TIME: Row(name, "succeeded", None, 10.0, 1.0),
            Ending.SPARED: Row(name, "succeeded", None, 2.0 * TIMEOUT, 1.0),
            Ending.REAPED: Row(
                name, "failed", "JobTimeout", TIMEOUT + 1.0, STALL + 1.0, [EVIDENCE], part.behaviour == "late"
            ),
            Ending.OVERWRITTEN: Row(name, "succeeded", "JobTimeout", 2.0 * TIMEOUT, 1.0, [EVIDENCE]),
        }[part.ending]
    return rows


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_is_whole_and_has_one_line_for_each_worker_at(width: int) -> None:
    rows = {
        part.name: Row(part.name, "succeeded", "JobTimeout", 99.0, 99.0, [EVIDENCE])
        if number % 2
        else Row(part.name, "running", None, 99.0, 99.0)
        for number, part in enumerate(SCENARIOS)
    }
    stage = SimpleNamespace(seconds=99.0, workers=[SimpleNamespace(part=part, state="waiting") for part in SCENARIOS])
    console = Console(width=width, file=StringIO(), color_system=None)
    console.print(workers_table(stage, rows, width))  # type: ignore[arg-type]
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    lines = [line for line in shown.splitlines() if line.strip()]
    assert "…" not in shown and max(map(len, lines)) <= width
    for part in SCENARIOS:
        [line] = [line for line in lines if line.strip().startswith(f"{part.name}  ")]
        assert "99 s" in line and ("reaped, then succeeded" in line or "past its timeout" in line)
        assert (part.does in line) is (width == 120)
    assert len(lines) <= 19, "with the log, 24 lines are enough"


def verdicts(rows: Mapping[str, Row]) -> dict[str, bool]:
    return {judgement.part.name: judgement.correct for judgement in check_all(rows, spared={})}


def test_check_is_correct_when_every_job_ends_as_expected() -> None:
    assert all(verdicts(good_rows()).values())


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("steady", {"status": "failed", "error_code": "JobTimeout", "evidence": [EVIDENCE]}),
        ("slow", {"evidence": [EVIDENCE]}),
        ("slow", {"age": TIMEOUT - 1.0}),
        ("crashed", {"status": "running", "error_code": None, "evidence": []}),
        ("crashed", {"evidence": [EVIDENCE, EVIDENCE]}),
        ("crashed", {"evidence": []}),
        ("crashed", {"error_code": "ManualTimeout"}),
        ("hung", {"evidence": [{**EVIDENCE, "silence_seconds": STALL - 1.0}]}),
        ("hung", {"evidence": [{**EVIDENCE, "age_seconds": TIMEOUT - 1.0}]}),
        ("late, careful", {"status": "succeeded"}),
        ("late, careful", {"discarded": False}),
        ("late, careless", {"status": "failed"}),
    ],
)
def test_check_notices_a_wrong_ending(name: str, difference: Mapping[str, Any]) -> None:
    rows = good_rows()
    rows[name] = replace(rows[name], **difference)
    assert [part for part, right in verdicts(rows).items() if not right] == [name]
