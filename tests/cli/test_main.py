"""The command line as such: names, help, exit statuses, messages, streams, terminals."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from reaper import __version__
from reaper.cli import exit_codes
from reaper.cli.main import COMMANDS
from tests.support.commands import AWAY, COMMAND, Reaper, environment, without_notice
from tests.support.protea import Protea


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    """Without any database."""
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {})


@pytest.fixture
def reaper(bare: Reaper, database: str) -> Reaper:
    """With the test's own database."""
    bare.given["REAPER_DATABASE_URL"] = database
    return bare


# --- help ---------------------------------------------------------------------------------------------------


def test_help_imports_nothing_that_is_slow_and_is_quick() -> None:
    look = (
        "import sys\nfrom reaper.cli import main\n"
        "try:\n    sys.argv[1:] = ['--help']; main()\n"
        "finally:\n    slow = {'sqlalchemy', 'psycopg', 'pydantic', 'rich', 'structlog'} & set(sys.modules)\n"
        "    assert not slow, slow"
    )
    times = []
    for _ in range(3):
        begun = time.monotonic()
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, env=environment({}))
        times.append(time.monotonic() - begun)
        assert done.returncode == 0, done.stderr
    assert min(times) < 1.0  # 0.3 s on a machine that does nothing else


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_the_help_that_the_list_promises_and_an_example(bare: Reaper, name: str) -> None:
    assert import_module(f"reaper.cli.{name.replace('-', '_')}").command.short_help == COMMANDS[name]
    helped = bare(name, "--help")
    assert helped.exit_code == 0
    assert "Example:\n    reaper " in helped.stdout or "Example:\n    REAPER_" in helped.stdout


def test_version_is_printed(bare: Reaper) -> None:
    assert bare("--version").stdout == f"reaper {__version__}\n"


# --- usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["swep"], "There is no command 'swep'; did you mean 'sweep'?"),
        (["xyzzy"], "There is no command 'xyzzy'; expected one of: check, clean"),
        (["sweep", "--dryrun"], "Did you mean '--dry-run'?"),
        (["report", "--verdict", "dead"], "'dead' is not one of 'young', 'spared', 'stale'"),
        (["report", "--limit", "0"], "0 is not in the range"),
        (["fail", "17"], "Missing option '--reason'"),
        (["fail", "17", "--reason", " "], "expected text"),
        (["explain"], "Missing argument 'JOB'"),
        (["explain", "a\0b"], "expected a job's key"),
        (["explain", "a\udcff"], "expected UTF-8 text"),
        (["report", "--kind", "a\udcff"], "expected UTF-8 text"),
        (["sweep", "--source", "defalt"], "There is no source 'defalt'; did you mean 'default'?"),
        (["sweep", "--older-than", "5 parsecs"], "'--older-than': expected a duration such as 6h"),
        (["sweep", "--older-than", "0"], "'--older-than': expected a duration above 0"),
    ],
)
def test_wrong_usage_is_2_and_says_what_was_expected(bare: Reaper, arguments: list[str], message: str) -> None:
    result = bare(*arguments, REAPER_DATABASE_URL=AWAY)
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert message in result.stderr


# --- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "sweep", "report", "check", "sql"])
def test_missing_database_is_exit_status_78_and_says_where_to_set_one(bare: Reaper, name: str) -> None:
    result = bare(name)
    assert (result.exit_code, result.stdout) == (exit_codes.CONFIGURATION, "")
    assert result.stderr.count("\n") == 1
    for place in ("REAPER_DATABASE_URL", "config/reaper.toml", "reaper demo"):
        assert place in result.stderr


def test_configuration_problems_are_reported_all_at_once(bare: Reaper) -> None:
    bare.configure('timeout_seconds = 0\ndatabase_url = "postgresql://a:geheim@b:c/d"\nstal_seconds = 1\n')
    result = bare("report", REAPER_INTERVALL="3")
    assert result.exit_code == exit_codes.CONFIGURATION
    assert len(result.stderr.splitlines()) == 4
    assert "did you mean 'REAPER_INTERVAL_SECONDS'?" in result.stderr


def test_config_show_tells_each_value_and_where_it_came_from_without_secrets(bare: Reaper) -> None:
    result = bare("config", "show", REAPER_DATABASE_URL=AWAY, REAPER_STALL_SECONDS="20m")
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert lines["stall_seconds"] == ["20m", "REAPER_STALL_SECONDS"]
    assert lines["sources.default.database_url"] == [AWAY.replace("geheim", "***").replace("l:", "l+psycopg:", 1),
                                                     "REAPER_DATABASE_URL"]  # fmt: skip
    shown = bare.json("config", "show", REAPER_DATABASE_URL=AWAY)
    assert {"name": "stall_seconds", "value": "30m", "origin": "default"} in shown["values"]


def test_config_check_says_whether_a_daemon_would_take_it(bare: Reaper) -> None:
    right = bare("config", "check", REAPER_DATABASE_URL=AWAY)
    assert (right.exit_code, right.stdout) == (exit_codes.DONE, "The configuration is right. Sources: default.\n")
    assert bare.json("config", "check", REAPER_DATABASE_URL=AWAY)["sources"] == ["default"]
    for reason, given in {
        "no database is configured": {},
        "there is no token for HTTP": {"REAPER_DATABASE_URL": AWAY, "REAPER_HTTP_HOST": "0.0.0.0"},
        "none: No such file": {"REAPER_DATABASE_URL": AWAY, "REAPER_HTTP_TOKEN_FILE": "none"},
        "after the ? of the URL": {"REAPER_DATABASE_URL": f"{AWAY}?bogus=1"},
    }.items():
        wrong = bare("config", "check", **given)
        assert (wrong.exit_code, wrong.stdout) == (exit_codes.CONFIGURATION, "")
        assert reason in wrong.stderr and wrong.stderr.count("\n") == 1


def test_config_option_names_the_file(bare: Reaper) -> None:
    (bare.folder / "mine.toml").write_text("stall_seconds = '7m'\n")
    shown = bare.json("--config", "mine.toml", "config", "show")
    assert {"name": "stall_seconds", "value": "7m", "origin": "mine.toml:1"} in shown["values"]
    missing = bare("-c", "none.toml", "config", "show")
    assert missing.exit_code == exit_codes.CONFIGURATION
    assert missing.stderr == "--config: cannot read none.toml: No such file or directory\n"


def test_run_refuses_a_port_that_is_taken_in_one_line(reaper: Reaper) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with reaper.process("run", REAPER_HTTP_PORT=str(port)) as daemon:
            _, errors = daemon.communicate(timeout=30)
    assert daemon.returncode == exit_codes.FAILED
    assert errors.startswith("reaper: ") and str(port) in errors and errors.count("\n") == 1


def test_run_sweeps_until_it_is_stopped(reaper: Reaper) -> None:
    with reaper.process("run", REAPER_HTTP_PORT="0") as daemon:
        assert daemon.stderr is not None
        assert "Reaper starts." in daemon.stderr.readline()
        daemon.terminate()
        assert daemon.wait(10) == 0


# --- a database that is away --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["sweep", "--yes"], ["report"], ["check"], ["explain", "17"], ["fail", "17", "--yes", "--reason", "x"]],
)
def test_unavailable_database_is_exit_status_75_in_one_line_that_names_the_source(
    bare: Reaper, arguments: list[str]
) -> None:
    result = bare(*arguments, REAPER_DATABASE_URL=AWAY)
    assert (result.exit_code, result.stdout) == (exit_codes.AWAY, "")
    [line] = without_notice(result.stderr).splitlines()
    assert line.startswith("reaper: source default: connection failed")


def test_json_document_says_that_a_database_is_away(bare: Reaper) -> None:
    for words in (("sweep", "--yes"), ("report",), ("check",)):
        [source] = bare.json(*words, code=exit_codes.AWAY, REAPER_DATABASE_URL=AWAY)["sources"]
        assert source["database_away"] and "connection failed" in source["error"]
    refused = bare.json("explain", "17", code=exit_codes.AWAY, REAPER_DATABASE_URL=AWAY)
    assert (refused["command"], "connection failed" in refused["error"]) == ("explain", True)
    assert "no database" in bare.json("sweep", "--yes", code=exit_codes.CONFIGURATION)["error"]


def two_sources(reaper: Reaper, first: str, second: str) -> None:
    reaper.given.pop("REAPER_DATABASE_URL", None)
    reaper.configure(f'[sources.here]\ndatabase_url = "{first}"\n[sources.there]\ndatabase_url = "{second}"\n')


def test_unavailable_source_does_not_hide_the_other(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    two_sources(reaper, protea.url, AWAY)
    reported = reaper("report", "--exit-code")
    assert reported.exit_code == exit_codes.AWAY
    assert job in reported.stdout and "source there" in reported.stderr
    assert reaper("explain", job).exit_code == 0
    # The other source might have a job of that name too.
    refused = reaper("fail", "--yes", job, "--reason", "x")
    assert refused.exit_code == exit_codes.AWAY and "--source" in refused.stderr
    assert reaper("check").exit_code == exit_codes.AWAY
    swept = reaper.json("sweep", "--yes", code=exit_codes.AWAY)
    assert [(source["source"], source["reaped"]) for source in swept["sources"]] == [("here", 1), ("there", 0)]
    assert reaper("sweep", "--yes", "--source", "here").exit_code == 0


def test_job_that_two_sources_have_needs_the_source_option(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    # The same database once more, under a name by which it cannot be recognised.
    two_sources(reaper, protea.url, f"{protea.url}&application_name=other")
    result = reaper("fail", "--yes", job, "--reason", "x")
    assert result.exit_code == exit_codes.USAGE
    assert "is in several sources: here, there" in result.stderr
    assert reaper("fail", "--yes", job, "--reason", "x", "--source", "there").exit_code == 0
    nowhere = reaper("explain", job, "--source", "here").exit_code, reaper("explain", "17").stderr
    assert nowhere[0] == 0 and "source here" in nowhere[1] and "source there" in nowhere[1]


def test_exit_status_is_the_worst_of_all_sources() -> None:
    assert exit_codes.worst([]) == exit_codes.DONE
    assert exit_codes.worst([exit_codes.DONE, exit_codes.ATTENTION]) == exit_codes.ATTENTION
    assert exit_codes.worst([exit_codes.ATTENTION, exit_codes.FAILED]) == exit_codes.FAILED
    assert exit_codes.worst([exit_codes.FAILED, exit_codes.AWAY, exit_codes.ATTENTION]) == exit_codes.AWAY
    assert exit_codes.worst([exit_codes.AWAY, exit_codes.INTERRUPTED]) == exit_codes.INTERRUPTED


# --- streams and terminals ----------------------------------------------------------------------------------


def on_terminal(reaper: Reaper, *arguments: str, **given: str) -> str:
    """What a terminal is shown on stdout."""
    given = {"TERM": "xterm", "COLUMNS": "150"} | given
    ours, theirs = pty.openpty()
    with reaper.process(*arguments, stdout=theirs, stderr=subprocess.PIPE, **given) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(10) == 0
    os.close(ours)
    return shown.decode()


def test_colours_are_for_terminals_alone_and_not_where_they_are_unwanted(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    assert "\x1b[31m" in on_terminal(reaper, "report")
    plain = on_terminal(reaper, "report", NO_COLOR="1")
    assert job in plain and "\x1b" not in plain
    assert "\x1b" not in reaper("report").output + reaper("sweep", "--yes").output


def test_names_stay_whole_on_a_narrow_terminal(reaper: Reaper, protea: Protea) -> None:
    jobs = [protea.stale(operation="a_rather_long_name_of_a_kind"), protea.job(age=60)]
    lines = on_terminal(reaper, "report", NO_COLOR="1", COLUMNS="80").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert all(any(job in line for line in lines) for job in jobs)
    assert "stale in 5h 5" in " ".join(" ".join(lines).split())


def test_progress_of_a_long_sweep_is_shown_only_on_a_terminal(reaper: Reaper, protea: Protea) -> None:
    ours, theirs = pty.openpty()
    protea.stale()
    with reaper.process("sweep", "--yes", "--json", stderr=theirs, TERM="xterm") as process:
        os.close(theirs)
        output, _ = process.communicate(timeout=30)
    assert json.loads(output)["sources"][0]["reaped"] == 1
    assert "Sweeping default" in os.read(ours, 65536).decode()
    os.close(ours)


def test_text_from_a_database_cannot_control_a_terminal(reaper: Reaper, protea: Protea) -> None:
    protea.stale(operation="evil\x1b[2J\nname")
    for arguments in (["report"], ["sweep", "--dry-run"], ["report", "--json"]):
        shown = reaper(*arguments).stdout
        assert "\x1b" not in shown and "evil" in shown


def test_closed_pipe_is_no_error(reaper: Reaper, protea: Protea) -> None:
    for _ in range(3):
        protea.stale()
    for arguments in (["report"], ["report", "--json"]):
        with reaper.process(*arguments) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""


def test_full_disk_is_reported_in_one_line(reaper: Reaper) -> None:
    with Path("/dev/full").open("w") as full, reaper.process("sql", stdout=full.fileno()) as process:
        assert process.stderr is not None
        assert process.stderr.read() == "reaper: No space left on device\n"
        assert process.wait(10) == exit_codes.FAILED


def test_output_that_cannot_be_encoded_is_spelled_out(reaper: Reaper, protea: Protea) -> None:
    protea.stale(operation="größe")
    with reaper.process("report", PYTHONIOENCODING="ascii") as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "gr\\xf6\\xdfe" in output


def test_json_document_is_alone_on_stdout(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    with reaper.process("sweep", "--yes", "--json") as process:
        output, errors = process.communicate(timeout=30)
    assert (json.loads(output)["command"], without_notice(errors)) == ("sweep", "")


def test_console_script_and_module_are_the_same() -> None:
    done = subprocess.run([*COMMAND, "nonsense"], capture_output=True, text=True, env=environment({}))
    assert done.returncode == exit_codes.USAGE
    assert done.stderr.startswith("Usage: reaper [OPTIONS]")
