"""`reaper cleanup`: noetl's own command, on a real server: its layout, its JSON, and exactly the minutes given."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from tests.support.commands import AWAY, Reaper, environment
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, MINUTE
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.servers import postgresql_world
from tests.support.worlds.world import State

RULE = "=" * 60
DAY = 24 * HOUR


@pytest.fixture
def noetl(databases: TemporaryDatabases) -> Iterator[NoetlWorld]:
    with postgresql_world(databases, NoetlWorld) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noetl: NoetlWorld) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl"})


def three(noetl: NoetlWorld, age: float = 6 * MINUTE) -> list[int]:
    """Three stuck executions, by number."""
    return sorted(int(noetl.job(age=age, sign=None)) for _ in range(3))


# --- the minutes given are the minutes used ---------------------------------------------------------------------


MINUTES = [5, *(pytest.param(minutes, marks=pytest.mark.thorough) for minutes in (1, 120, 1440))]


@pytest.mark.parametrize("minutes", MINUTES)
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


@pytest.mark.parametrize("minutes", MINUTES)
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


def test_less_than_a_minute_is_wrong_usage(reaper: Reaper) -> None:
    for minutes in ("0", "-5", "0.5", "five", "nan", "99999999999"):
        result = reaper("cleanup", "--older-than-minutes", minutes)
        assert result.exit_code == exit_codes.USAGE and "--older-than-minutes" in result.stderr, minutes


def test_shorter_limits_of_kinds_do_not_count_in_cleanup(reaper: Reaper, noetl: NoetlWorld) -> None:
    reaper.configure("[kinds.'etl/load']\ntimeout_seconds = '1s'\nstall_seconds = '1s'\n")
    older = noetl.job(age=6 * MINUTE, sign=4 * MINUTE)
    assert reaper.json("cleanup")["execution_ids"] == []
    assert reaper.json("cleanup", "--older-than-minutes", "3")["execution_ids"] == [int(older)]


@pytest.mark.parametrize("limit", ["timeout_seconds", pytest.param("stall_seconds", marks=pytest.mark.thorough)])
def test_longer_limit_of_a_kind_holds_in_cleanup_and_is_counted(reaper: Reaper, noetl: NoetlWorld, limit: str) -> None:
    reaper.configure(f"[kinds.'etl/load']\n{limit} = '1h'\n")
    job = noetl.job(age=30 * MINUTE, sign=20 * MINUTE)
    note = (
        "Spared: 1 execution(s) older than 10 minutes, because the limit of their kind or their row is longer"
        if limit == "timeout_seconds"
        else "Spared: 1 execution(s) older than 10 minutes"
    )
    for words in (["--dry-run"], []):
        document = reaper.json("cleanup", "--older-than", "10m", *words)
        assert (document["execution_ids"], document["notes"][0][: len(note)]) == ([], note)
    assert noetl.state(job) is State.RUNNING
    assert reaper.json("cleanup", "--older-than", "10m")["spared_count"] >= 1
    reaper.configure("")
    assert reaper.json("cleanup", "--older-than", "10m")["execution_ids"] == [int(job)]


def test_age_is_a_duration_or_minutes_and_not_both(reaper: Reaper, noetl: NoetlWorld) -> None:
    older, younger = noetl.job(age=100, sign=None), noetl.job(age=80, sign=None)
    result = reaper("cleanup", "--older-than", "90s")
    assert "Cancelled 1 stuck executions older than 1.5 minutes" in result.stdout
    assert (noetl.state(older), noetl.state(younger)) == (State.REAPED, State.RUNNING)
    both = reaper("cleanup", "--older-than", "90s", "--older-than-minutes", "2")
    assert both.exit_code == exit_codes.USAGE and "mean the same: give one of them" in both.stderr
    for wrong in ("0s", "soon", "3651d", "-5m"):
        assert reaper("cleanup", "--older-than", wrong).exit_code == exit_codes.USAGE


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
    assert reaper.json("cleanup", "--yes", "--release", "130")["execution_ids"] == ids


# --- what is spared, and is said ----------------------------------------------------------------------------------


def test_silence_from_before_the_database_s_start_counts_only_when_it_is_trusted(
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
    assert reaper.json("cleanup", *old, "--force", REAPER_RESTART_GRACE="60s")["execution_ids"] == []
    assert reaper.json("cleanup", *old, "--trust-silence", REAPER_RESTART_GRACE="60s")["execution_ids"] == ids


def test_breaker_holds_cleanup_until_it_is_released_for_as_many(reaper: Reaper, noetl: NoetlWorld) -> None:
    """Executions that lost their start count with the others."""
    jobs = [noetl.job(age=6 * MINUTE, sign=None) for _ in range(26)]
    jobs += [noetl.start_lost_job(age=(20 + n) * MINUTE, sign=None) for n in range(25)]
    held = reaper("cleanup")
    assert held.exit_code == exit_codes.FAILED
    assert "Held by the breaker: 51 of 51 running jobs fell silent" in held.stdout
    assert "Cancelled 0 stuck executions older than 5 minutes" in held.stdout
    assert reaper.json("cleanup", "--force", "--release", "50", code=exit_codes.FAILED)["cancelled_count"] == 0
    assert {noetl.state(job) for job in jobs} == {State.RUNNING}
    assert reaper.json("cleanup", "--release", "51")["cancelled_count"] == 51


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


def test_executions_that_a_sign_of_life_spares_are_counted(reaper: Reaper, noetl: NoetlWorld) -> None:
    [silent] = three(noetl)[:1]
    for _ in range(2):
        noetl.job(age=9 * MINUTE, sign=MINUTE)
    noetl.job(age=MINUTE, sign=None)
    said = reaper("cleanup", "--dry-run").stdout.splitlines()
    reason = "because each has shown a sign of life within the last 5 minutes"
    assert f"Spared: 2 execution(s) older than 5 minutes, {reason}" in said
    document = reaper.json("cleanup", "--dry-run")
    assert (document["cancelled_count"], document["spared_count"]) == (3, 2) and silent in document["execution_ids"]
    assert document["notes"] == [line for line in said if line.startswith("Spared: ")]


def test_database_that_is_away_is_not_reported_as_nothing_stuck(reaper: Reaper) -> None:
    done = reaper.json("cleanup", code=exit_codes.AWAY, REAPER_DATABASE_URL=AWAY)
    assert done["message"].startswith("Nothing was cancelled: the database is away: ")
    assert (done["cancelled_count"], done["execution_ids"], done["database_away"]) == (0, [], True)
    preview = reaper.json("cleanup", "--dry-run", code=exit_codes.AWAY, REAPER_DATABASE_URL=AWAY)
    assert preview["message"].startswith("It is not known what is stuck: the database is away: ")
    refused = reaper("cleanup", REAPER_DATABASE_URL=AWAY)
    assert refused.exit_code == exit_codes.AWAY and not refused.stdout and "source default: " in refused.stderr


SCRIPT = r"""
RESULT=$(reaper cleanup --older-than-minutes 10 --json)
COUNT=$(echo $RESULT | jq -r '.cancelled_count')
if [ "$COUNT" -gt 0 ]; then
echo "Cancelled $COUNT stuck executions"
echo $RESULT | jq -r '.execution_ids[]' | while read id; do
echo " - Execution ID: $id"
done
fi
"""
"""The script of noetl's document, with the name of this command."""


@pytest.mark.skipif(shutil.which("jq") is None, reason="the document's script needs jq")
def test_script_of_the_document_runs_as_typed_and_shows_that_the_database_is_away(
    reaper: Reaper, noetl: NoetlWorld
) -> None:
    job = noetl.start_lost_job(age=20 * MINUTE, sign=None)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(**given: str) -> subprocess.CompletedProcess[str]:
        env = environment({**reaper.given, **given, "PATH": path})
        return subprocess.run(["bash", "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)

    away = run(REAPER_DATABASE_URL=AWAY)
    assert not away.stdout and "reaper: source default: connection failed" in away.stderr
    done = run()
    # jq before 1.7 rounds large numbers.
    assert done.stdout.splitlines()[0] == "Cancelled 1 stuck executions" and len(done.stdout.splitlines()) == 2
    assert noetl.state(job) is State.REAPED


# --- executions whose start was lost ------------------------------------------------------------------------------


def test_executions_that_lost_their_start_are_cancelled_with_the_others(reaper: Reaper, noetl: NoetlWorld) -> None:
    lost = int(noetl.start_lost_job(age=20 * MINUTE, sign=6 * MINUTE))
    ordinary, alive = int(noetl.job(age=6 * MINUTE, sign=None)), noetl.start_lost_job(age=20 * MINUTE, sign=MINUTE)
    young, history = noetl.start_lost_job(age=MINUTE, sign=None), noetl.start_lost_job(age=9 * DAY, sign=8 * DAY)
    preview = reaper.json("cleanup", "--dry-run")
    assert preview["execution_ids"] == sorted([lost, ordinary])
    assert (preview["cancelled_count"], preview["start_lost_count"], preview["spared_count"]) == (2, 1, 1)
    assert any(note.startswith("Start lost: 1 of them have no event that starts them") for note in preview["notes"])
    done = reaper("cleanup").stdout.splitlines()
    assert done[4:6] == ["Found: 2 stuck execution(s)", "Cancelled 2 stuck executions older than 5 minutes"]
    assert [noetl.state(str(job)) for job in (lost, ordinary)] == [State.REAPED, State.REAPED]
    assert {noetl.state(job) for job in (alive, young, history)} == {State.RUNNING}
    assert reaper.json("cleanup")["execution_ids"] == []


def test_source_that_does_not_look_for_them_leaves_them_alone(reaper: Reaper, noetl: NoetlWorld) -> None:
    lost = noetl.start_lost_job(age=20 * MINUTE, sign=None)
    assert reaper.json("cleanup", REAPER_START_LOST="off")["execution_ids"] == []
    assert noetl.state(lost) is State.RUNNING


def test_explain_says_what_is_known_of_them_and_which_entry_ended_an_execution(
    reaper: Reaper, noetl: NoetlWorld
) -> None:
    lost, history = noetl.start_lost_job(), noetl.start_lost_job(age=9 * DAY, sign=8 * DAY)
    said = reaper("explain", lost).stdout
    assert "created_at of its first known entry" in said and "stale: " in said
    assert reaper.json("explain", lost)["job"]["start_lost"] is True
    assert "its start was lost, and its newest entry is 8d old: it no longer counts as running" in " ".join(
        reaper("explain", history).stdout.split()
    )
    ended = noetl.stale_job()
    noetl.write(ended, "workflow.completed", "completed", age=2 * MINUTE)
    noetl.write(ended, "playbook.completed", "completed", age=MINUTE)
    assert re.search(r"the entry workflow\.completed at \S+ ended it", reaper("explain", ended).stdout)
    job = reaper.json("explain", ended)["job"]
    assert (job["ended_by"], job["start_lost"], job["verdict"]) == ("workflow.completed", False, "ended")
    refused = reaper("fail", "--yes", ended, "--reason", "test")
    assert refused.exit_code == exit_codes.FAILED and "the entry workflow.completed at" in refused.stderr
    assert reaper("fail", "--yes", lost, "--reason", "test").exit_code == 0
    assert reaper.json("explain", lost)["job"]["ended_by"] == "execution.cancelled"


def test_report_shows_them_apart(reaper: Reaper, noetl: NoetlWorld) -> None:
    lost, ordinary = noetl.start_lost_job(), noetl.job(age=MINUTE, sign=None)
    said = reaper("report").stdout
    assert "Source default: 1 running" in said
    assert "Source default, start lost: 1 running, 1 past their timeout: 0 spared, 1 stale." in said
    [source] = reaper.json("report")["sources"]
    assert [job["key"] for job in source["jobs"]] == [ordinary]
    assert [job["key"] for job in source["start_lost"]["jobs"]] == [lost]
    assert reaper("report", "--exit-code").exit_code == exit_codes.ATTENTION
    [source] = reaper.json("report", REAPER_START_LOST="off")["sources"]
    assert source["start_lost"] is None
    assert reaper("report", "--exit-code", REAPER_START_LOST="off").exit_code == 0


def test_check_names_them_and_the_index_that_finds_them(reaper: Reaper, noetl: NoetlWorld) -> None:
    lost = noetl.start_lost_job()
    said = " ".join(reaper("check").stdout.split())
    assert f"1 job(s), such as {lost}, have entries and none that starts or ends them: their start was lost" in said
    assert "start was lost" not in reaper("check", REAPER_START_LOST="off").stdout
    noetl.session.do("DROP INDEX noetl.idx_event_created_at")
    for other_index in (None, "CREATE INDEX part ON noetl.event (created_at) WHERE event_type = 'execution.started'"):
        if other_index is not None:
            noetl.session.do(other_index)
        said = " ".join(reaper("check").stdout.split())
        assert "no index on (created_at): recent entries, for jobs whose start was lost, are searched" in said
        assert "CREATE INDEX ON noetl.event (created_at);" in said
        assert "their start was lost" not in said, "to find them, the whole log would be read"


# --- the queries of the document ----------------------------------------------------------------------------------

RUNNING = """
SELECT execution_id FROM noetl.event WHERE event_type = 'execution.started' AND execution_id NOT IN (SELECT execution_id
FROM noetl.event WHERE event_type IN ('playbook.completed', 'playbook.failed', 'execution.cancelled'))
"""


def test_query_of_running_executions_lists_what_cleanup_has_left(reaper: Reaper, noetl: NoetlWorld) -> None:
    for _ in range(2):
        noetl.write(noetl.start_lost_job(), "execution.started", "started", age=8 * HOUR)
    alive = noetl.start_lost_job()
    noetl.write(alive, "execution.started", "started", age=MINUTE)
    assert len(noetl.session.ask(RUNNING)) == 3
    assert reaper.json("cleanup")["cancelled_count"] == 2
    assert [str(row[0]) for row in noetl.session.ask(RUNNING)] == [alive]


def test_cancellation_is_the_entry_that_the_document_inserts_by_hand(reaper: Reaper, noetl: NoetlWorld) -> None:
    job = noetl.job(age=9 * MINUTE, sign=6 * MINUTE)
    newest = noetl.session.one("SELECT max(event_id) FROM noetl.event WHERE execution_id = %s", job)
    assert reaper.json("cleanup")["execution_ids"] == [int(job)]
    [(number, catalog, event, status, context, age)] = noetl.session.ask(
        "SELECT event_id, catalog_id, event_type::text, lower(status::text), context,"
        " extract(epoch FROM (now() AT TIME ZONE 'UTC') - created_at)::float FROM noetl.event"
        " WHERE execution_id = %s ORDER BY event_id DESC LIMIT 1",
        job,
    )
    assert (number, catalog, event, status) == (newest + 1, 5, "execution.cancelled", "cancelled")
    assert {"reason", "cancelled_at"} <= set(context) and 0 <= age < MINUTE
