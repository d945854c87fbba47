"""`reaper cleanup`: noetl's own command, on a real server: its layout, its JSON, and exactly the minutes given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from tests.support.commands import AWAY, Reaper
from tests.support.protea import MINUTE
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import State

RULE = "=" * 60


@pytest.fixture
def noetl(empty: PostgreSQLDatabase) -> Iterator[NoetlWorld]:
    with NoetlWorld.create(empty) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noetl: NoetlWorld) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl"})


def three(noetl: NoetlWorld, age: float = 6 * MINUTE) -> list[int]:
    """Three stuck executions, by number."""
    return sorted(int(noetl.job(age=age, sign=None)) for _ in range(3))


# --- the minutes given are the minutes used ---------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [1, 5, 120, 1440])
def test_older_than_minutes_is_timeout_and_stall_window(reaper: Reaper, noetl: NoetlWorld, minutes: int) -> None:
    # Half a minute is what a slow machine may take for the whole test.
    older = noetl.job(age=minutes * MINUTE + 1, sign=None)
    younger = noetl.job(age=minutes * MINUTE - 30, sign=None)
    preview = reaper.json("cleanup", "--older-than-minutes", f"{minutes}", "--dry-run")
    assert preview["execution_ids"] == [int(older)]
    done = reaper.json("cleanup", "--older-than-minutes", f"{minutes}")
    assert (done["cancelled_count"], done["execution_ids"]) == (1, [int(older)])
    assert (noetl.state(older), noetl.state(younger)) == (State.REAPED, State.RUNNING)
    [evidence] = noetl.audit(older)
    assert evidence["timeout_seconds"] == evidence["stall_seconds"] == minutes * MINUTE
    assert evidence["timeout_from"] == evidence["stall_from"] == "--older-than-minutes"


@pytest.mark.parametrize("minutes", [1, 5, 120, 1440])
def test_execution_with_a_sign_of_life_within_the_minutes_is_spared(
    reaper: Reaper, noetl: NoetlWorld, minutes: int
) -> None:
    alive = noetl.job(age=minutes * MINUTE * 3, sign=minutes * MINUTE - 30)
    silent = noetl.job(age=minutes * MINUTE * 3, sign=minutes * MINUTE + 1)
    assert reaper.json("cleanup", "--older-than-minutes", f"{minutes}")["execution_ids"] == [int(silent)]
    assert noetl.state(alive) is State.RUNNING


def test_older_than_minutes_defaults_to_five(reaper: Reaper, noetl: NoetlWorld) -> None:
    older, younger = noetl.job(age=5 * MINUTE + 1, sign=None), noetl.job(age=4.5 * MINUTE, sign=None)
    assert reaper.json("cleanup")["execution_ids"] == [int(older)]
    assert noetl.state(younger) is State.RUNNING


@pytest.mark.parametrize("minutes", ["0", "-5", "0.5", "five", "nan", "99999999999"])
def test_less_than_a_minute_is_wrong_usage(reaper: Reaper, minutes: str) -> None:
    result = reaper("cleanup", "--older-than-minutes", minutes)
    assert result.exit_code == exit_codes.USAGE and "--older-than-minutes" in result.stderr


def test_thresholds_of_kinds_do_not_count_in_cleanup(reaper: Reaper, noetl: NoetlWorld) -> None:
    reaper.configure("[kinds.'etl/load']\ntimeout_seconds = '5d'\nstall_seconds = '1s'\n")
    older = noetl.job(age=6 * MINUTE, sign=4 * MINUTE)
    assert reaper.json("cleanup")["execution_ids"] == []
    assert reaper.json("cleanup", "--older-than-minutes", "3")["execution_ids"] == [int(older)]


# --- what it prints ---------------------------------------------------------------------------------------------


def test_dry_run_has_the_layout_of_the_document_and_changes_nothing(reaper: Reaper, noetl: NoetlWorld) -> None:
    ids, before = three(noetl), noetl.dump()
    result = reaper("cleanup", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        RULE,
        "[DRY RUN] Cleanup Stuck Executions",
        RULE,
        "Older than: 5 minutes",
        "Found: 3 stuck execution(s)",
        "[DRY RUN] Would cancel 3 stuck executions older than 5 minutes",
        "Execution IDs:",
        *(f"- {each}" for each in ids),
        "Note: Run without --dry-run to actually cancel these executions",
        RULE,
    ]
    assert noetl.dump() == before


def test_cleanup_has_the_layout_of_the_document(reaper: Reaper, noetl: NoetlWorld) -> None:
    ids = three(noetl)
    assert reaper("cleanup").stdout.splitlines() == [
        RULE,
        "Cleanup Stuck Executions",
        RULE,
        "Older than: 5 minutes",
        "Found: 3 stuck execution(s)",
        "Cancelled 3 stuck executions older than 5 minutes",
        "Execution IDs:",
        *(f"- {each}" for each in ids),
        RULE,
    ]


def test_cleanup_with_nothing_to_do_says_so(reaper: Reaper, noetl: NoetlWorld) -> None:
    noetl.job(age=60, sign=None)
    assert reaper("cleanup").stdout.splitlines()[3:-1] == [
        "Older than: 5 minutes",
        "Found: 0 stuck execution(s)",
        "No stuck executions found older than 5 minutes",
    ]


def test_json_has_the_documented_members_with_ids_as_numbers(reaper: Reaper, noetl: NoetlWorld) -> None:
    ids = three(noetl)
    document = reaper.json("cleanup", "--dry-run")
    assert document["cancelled_count"] == 3 and document["execution_ids"] == ids
    assert document["message"] == "[DRY RUN] Would cancel 3 stuck executions older than 5 minutes"
    document = reaper.json("cleanup")
    assert document["cancelled_count"] == 3 and document["execution_ids"] == ids
    assert document["message"] == "Cancelled 3 stuck executions older than 5 minutes"
    assert reaper.json("cleanup")["message"] == "No stuck executions found older than 5 minutes"


def test_ids_are_all_listed_however_many_they_are(reaper: Reaper, noetl: NoetlWorld) -> None:
    ids = sorted(int(noetl.job(age=6 * MINUTE, sign=None)) for _ in range(130))
    assert reaper.json("cleanup", "--dry-run")["execution_ids"] == ids
    assert reaper.json("cleanup", "--force")["execution_ids"] == ids


# --- what is spared, and is said ----------------------------------------------------------------------------------


def test_silence_from_before_the_database_s_start_does_not_count_without_force(
    reaper: Reaper, noetl: NoetlWorld
) -> None:
    # Longer than the tests' own server has been up.
    old = ["--older-than-minutes", "600"]
    ids = three(noetl, 601 * MINUTE)
    careful = reaper("cleanup", *old, REAPER_RESTART_GRACE="60s")
    assert careful.exit_code == 0
    assert "Found: 0 stuck execution(s)" in careful.stdout
    assert "3 job(s) have been silent for longer than their stall window and were spared" in careful.stdout
    [note] = reaper.json("cleanup", *old, REAPER_RESTART_GRACE="60s")["notes"]
    assert "the database server was started lately" in note
    assert reaper.json("cleanup", *old, "--force", REAPER_RESTART_GRACE="60s")["execution_ids"] == ids


def test_breaker_holds_cleanup_without_force(reaper: Reaper, noetl: NoetlWorld) -> None:
    jobs = [noetl.job(age=6 * MINUTE, sign=None) for _ in range(51)]
    held = reaper("cleanup")
    assert held.exit_code == exit_codes.FAILED
    assert "Held by the breaker: 51 of 51 running jobs fell silent" in held.stdout
    assert "Cancelled 0 stuck executions older than 5 minutes" in held.stdout
    assert {noetl.state(job) for job in jobs} == {State.RUNNING}
    assert reaper.json("cleanup", "--force")["cancelled_count"] == 51


def test_source_must_be_named_when_there_are_several(reaper: Reaper, noetl: NoetlWorld) -> None:
    url = noetl.database.url
    reaper.configure(
        f"[sources.main]\ndatabase_url = '{url}'\nprofile = 'noetl'\n"
        f"[sources.other]\ndatabase_url = '{AWAY}'\nprofile = 'noetl'\n"
    )
    del reaper.given["REAPER_DATABASE_URL"]
    result = reaper("cleanup")
    assert result.exit_code == exit_codes.USAGE
    assert "There are several sources: main, other. Choose one with --source." in result.stderr
    ids = three(noetl)
    assert reaper.json("cleanup", "--source", "main")["execution_ids"] == ids
    assert reaper.json("cleanup", "--source", "other", code=exit_codes.AWAY)["execution_ids"] == []
