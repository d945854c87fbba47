"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import PROJECT, Reaper
from tests.support.daemons import until
from tests.support.protea import Protea

README = (PROJECT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ELSEWHERE = {
    "scripts/manage.sh start": "tests/system/test_manage.py",
    "scripts/manage.sh demo": "tests/system/test_manage.py",
    "scripts/test.sh": ".ci/run",
    "scripts/test.sh -k interleavings -x": ".ci/run",
    "python scripts/bench.py": "tests/system/test_benchmark.py",
    "scripts/install.sh": "tests/system/test_host.py",
    "systemctl enable --now reaper": "tests/system/test_host.py",
    "systemctl status reaper": "tests/system/test_host.py",
    "systemctl reload reaper": "tests/system/test_host.py",
}
"""Commands that another file runs: they set up a whole machine, or take minutes."""


def typed(text: str) -> list[str]:
    """The lines of all shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = (shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def reaper(protea: Protea, tmp_path: Path) -> Reaper:
    protea.stale()
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": "0"})


@pytest.mark.parametrize(
    "line", [line for line in typed(README) if line.startswith("reaper ") and line != "reaper run"]
)
def test_a_command_of_the_readme_does_what_it_says(reaper: Reaper, line: str) -> None:
    result = reaper(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_the_daemon_starts_as_the_readme_says_and_ends_when_told(reaper: Reaper, protea: Protea) -> None:
    assert "reaper run" in typed(README)
    with reaper.process("run") as daemon:
        until(lambda: protea.connection.execute("SELECT 1 FROM job WHERE status = 'failed'").fetchone(), "a reap")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=10)
        assert daemon.returncode == 0


def test_the_address_in_the_readme_is_one_that_settings_take(tmp_path: Path) -> None:
    [line] = [line for line in typed(README) if line.startswith("export ")]
    name, _, url = line.removeprefix("export ").partition("=")
    result = Reaper(tmp_path, {name: url})("config", "show")
    assert result.exit_code == 0, result.output


def test_every_command_of_the_documents_is_run_somewhere() -> None:
    for line in typed(README) + typed(CONTRIBUTING):
        if line.startswith(("reaper ", "export ")):
            continue
        place = PROJECT / ELSEWHERE[line]
        script, *words = line.removeprefix("python ").split()
        text = place.read_text(encoding="utf-8")
        assert Path(script).name in text, line
        assert not words or words[0].startswith("-") or words[0] in text, line


def test_the_table_of_the_readme_is_mapped_checked_and_swept(database: str, tmp_path: Path) -> None:
    [toml] = blocks("toml")
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database})
    reaper.configure(toml)
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE tasks (id bigint PRIMARY KEY, name text NOT NULL, state text NOT NULL, error text,"
            " created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, heartbeat_at timestamptz);"
            "CREATE INDEX ON tasks (state);"
            "INSERT INTO tasks SELECT n, 'resize', 'working', NULL, now() - interval '9 h', now() - interval '8 h',"
            " now() - n * interval '20 min' FROM generate_series(1, 3) n"
        )
        assert reaper("check").exit_code == 0
        assert reaper("sweep").exit_code == 0
        states = connection.execute("SELECT id, state, error FROM tasks ORDER BY id").fetchall()
    assert [state for _, state, _ in states] == ["working", "dead", "dead"]
    assert states[1][2].startswith("No sign of life for 40m")
