"""The command line in tests: in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from reaper.cli.main import cli
from tests.support.programs import PROJECT as PROJECT
from tests.support.programs import Process, Stream, start, without_settings

COMMAND = (sys.executable, "-W", "error", "-m", "reaper")
AWAY = "postgresql://someone:geheim@127.0.0.1:1/nothing"
"""A URL without a server behind it. Its password must never appear in any output."""


def without_notice(errors: str) -> str:
    """stderr without the line that no halt could be seen: most tests have no daemon, and no state directory."""
    first, _, rest = errors.partition("\n")
    return rest if first.startswith("reaper: no halt could be seen: ") else errors


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's, without settings that were meant for something else."""
    return {**without_settings(os.environ), **given}


class Reaper:
    """`reaper` with settings of its own. They trust silence across the restart of the test's server."""

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        self.folder = folder
        self.given = {"REAPER_RESTART_GRACE": "0", **given}

    def __call__(self, *arguments: str, **given: str) -> Result:
        """In this process."""
        env: dict[str, str | None] = dict.fromkeys(os.environ)
        env |= environment({**self.given, **given})
        result = CliRunner().invoke(cli, arguments, prog_name="reaper", env=env)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        assert "Traceback" not in result.output and "geheim" not in result.output
        return result

    def json(self, *arguments: str, code: int = 0, **given: str) -> Any:
        """The one document that the command prints."""
        result = self(*arguments, "--json", **given)
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)
        assert document["version"] == 1
        return document

    @contextmanager
    def process(
        self, *arguments: str, stdout: Stream = subprocess.PIPE, stderr: Stream = subprocess.PIPE, **given: str
    ) -> Iterator[Process]:
        """As a process of its own, which ends with the block."""
        with start(
            "reaper",
            *arguments,
            environment=environment({**self.given, **given}),
            folder=self.folder,
            stdout=stdout,
            stderr=stderr,
            warnings_are_errors=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def configure(self, text: str) -> None:
        """Put a configuration file in force."""
        path = self.folder / "reaper.toml"
        path.write_text(text)
        self.given["REAPER_CONFIG"] = str(path)
