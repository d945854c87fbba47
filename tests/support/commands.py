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

COMMAND = (sys.executable, "-W", "error", "-m", "reaper")
PROJECT = Path(__file__).parents[2]
AWAY = "postgresql://someone:geheim@127.0.0.1:1/nothing"
"""A URL without a server behind it. Its password must never appear in any output."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's, without settings that were meant for something else."""
    foreign = ("REAPER_", "PROTEA_TUNING", "CREDENTIALS_DIRECTORY", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**clean, "PYTHONPATH": str(PROJECT), **given}


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
        self, *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **given: str
    ) -> Iterator[subprocess.Popen[str]]:
        """As a process of its own, which ends with the block."""
        with subprocess.Popen(
            (*COMMAND, *arguments),
            env=environment({**self.given, **given}),
            cwd=self.folder,
            stdout=stdout,
            stderr=stderr,
            text=True,
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
