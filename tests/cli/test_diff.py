"""`reaper diff --config NEW` shows which running jobs a new configuration judges differently, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from reaper.cli import exit_codes
from reaper.database.server_identity import database_address
from reaper.memory.state_file import StateFile
from reaper.memory.worker_states import WorkerStateStore
from reaper.staleness.lost_workers import MISSING
from tests.support.commands import AWAY, Reaper
from tests.support.protea import HOUR, MINUTE, Protea
from tests.sweep.test_quiet_times import around


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    made = Reaper(tmp_path, {"REAPER_DATABASE_URL": database})
    made.configure('timeout_seconds = "6h"\n')
    return made


def diff(reaper: Reaper, new: str, *arguments: str, code: int = exit_codes.ATTENTION) -> list[dict[str, Any]]:
    path = reaper.folder / "new.toml"
    path.write_text(new)
    return list(reaper.json("diff", "--config", str(path), *arguments, code=code)["sources"])


def test_jobs_that_a_new_timeout_makes_stale_are_shown_with_both_thresholds(reaper: Reaper, protea: Protea) -> None:
    stale, soon, young = protea.stale(age=9 * HOUR), protea.stale(age=3 * HOUR), protea.stale(age=HOUR)
    before = protea.dump()
    [source] = diff(reaper, 'timeout_seconds = "6h"\n[kinds.embed]\ntimeout_seconds = "2h"\n')
    assert source["changed"] == {"young -> stale, ended by fail": 1}
    [job] = source["jobs"]
    assert (job["job"], job["present"]["verdict"], job["new"]["verdict"]) == (soon, "young", "stale")
    [why] = job["because"]
    assert why.startswith("timeout: 6h (") and "reaper.toml:1) -> 2h (" in why and why.endswith("new.toml:3))")
    assert (source["present"]["stale"], source["new"]["stale"]) == (1, 2)
    shown = reaper("diff", "--config", str(reaper.folder / "new.toml"))
    assert shown.exit_code == exit_codes.ATTENTION
    assert (
        "Source default: 1 job(s) are judged differently.\n" in shown.stdout and f"  {soon} (embed): " in shown.stdout
    )
    assert stale not in shown.stdout and young not in shown.stdout
    assert protea.dump() == before, "nothing was changed"


def test_nothing_differs_between_equal_configurations(reaper: Reaper, protea: Protea) -> None:
    protea.stale(age=9 * HOUR)
    [source] = diff(reaper, '# moved\n\ntimeout_seconds = "6h"\n', code=exit_codes.DONE)
    assert (source["differs"], source["changed"], source["jobs"]) == (False, {}, [])


def test_every_part_of_a_configuration_that_judges_is_told_apart(reaper: Reaper, protea: Protea) -> None:
    """Stall window, signs of life, what running means, and the action."""
    spared, silent, queued = protea.job(age=8 * HOUR), protea.stale(), protea.job(age=8 * HOUR, status="queued")
    protea.event(spared, age=10 * MINUTE)

    def changes(new: str) -> dict[str, list[str]]:
        [source] = diff(reaper, new)
        return {job["job"]: job["because"] for job in source["jobs"]}

    [stall] = changes('timeout_seconds = "6h"\nstall_seconds = "5m"\n')[spared]
    assert stall.startswith("stall window: 30m (default) -> 5m (")
    profile = '[sources.default]\nprofile = "ours"\n{}\n[profiles.ours]\nextends = "protea"\n{}\n'
    [signs] = changes(profile.format("", "alive = []"))[spared]
    assert "last sign of life: " in signs and "(job_event) -> " in signs and signs.endswith("(start)")
    [running] = changes(profile.format("", 'jobs.running.in = ["running", "queued"]'))[queued]
    assert running == "for the present one it does not run: its status is queued"
    never = 'never = [{ kind = "emb*" }]'
    [kept] = changes(profile.format(never, ""))[silent]
    assert kept.startswith("never ended: no -> ")
    requeue = '[profiles.ours.actions.requeue]\nset = { status = "queued" }'
    assert changes(profile.format('action = "requeue"', requeue)) == {silent: ["action: fail -> requeue"]}


def test_guard_that_only_one_configuration_has_is_shown_with_the_jobs_that_it_leaves(
    reaper: Reaper, protea: Protea
) -> None:
    """A new quiet time: nothing is ended now, and jobs are spared whose silence it covers."""
    silent, held = protea.job(age=8 * HOUR), protea.stale(age=3 * HOUR)
    protea.event(silent, age=40 * MINUTE)
    reaper.given["REAPER_STATE_DIR"] = str(reaper.folder)
    assert reaper("hold", held, "--for", "1h", "--reason", "Ann looks").exit_code == 0
    quiet = around(protea.now(), 20 * MINUTE, 2 * HOUR)
    limits = f'never = [{{ kind = "backup_*" }}]\nquiet = "{quiet}"\nmost = "1 in 10m"\n'
    [source] = diff(reaper, f'timeout_seconds = "2h"\n[sources.default]\n{limits}')
    assert source["guards"] == {
        "never": {"present": "none", "new": "backup_*"},
        "quiet": {"present": "none", "new": quiet},
        "most": {"present": "none", "new": "1 in 10m"},
    }
    assert source["changed"] == {"stale, ended by fail -> spared": 1, "young -> stale, left": 1}
    because = {job["job"]: job["because"] for job in source["jobs"]}
    assert because[silent][-1].startswith("quiet times: silence counts for a sign from before ")
    assert source["held"].startswith("it is quiet until ")
    shown = reaper("diff", "--config", str(reaper.folder / "new.toml")).stdout
    assert "  most: none -> 1 in 10m.\n" in shown
    assert "  A sweep of the new configuration would end no job now (quiet): it is quiet until " in shown


def test_cap_of_the_new_configuration_that_is_reached_is_told(reaper: Reaper, protea: Protea) -> None:
    for _ in range(2):
        protea.stale()
    reaper.given["REAPER_STATE_DIR"] = str(reaper.folder)
    [source] = diff(reaper, 'timeout_seconds = "6h"\n[sources.default]\nmost = "1 in 10m"\n')
    assert (source["changed"], source["jobs"], list(source["guards"])) == ({}, [], ["most"])
    assert "held by the cap until it is released: 2 stale job(s)" in source["held"]


def test_source_of_one_configuration_alone_is_shown_with_its_counts(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    sources = diff(reaper, '[sources.other]\nprofile = "protea"\n')
    by_name = {source["source"]: source for source in sources}
    assert by_name["default"]["new"] is None and by_name["default"]["present"]["stale"] == 1
    assert by_name["other"]["present"] is None and by_name["other"]["new"]["stale"] == 1
    assert all(source["differs"] for source in sources)
    shown = reaper("diff", "--config", str(reaper.folder / "new.toml")).stdout
    assert "Source default: only in the present configuration: 1 running" in shown
    assert "Source other: only in the new configuration: 1 running" in shown
    assert reaper("diff", "--config", "new.toml", "--source", "others").exit_code == exit_codes.USAGE


def test_jobs_of_another_table_are_not_compared(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    protea.connection.execute("CREATE TABLE other_job (LIKE job INCLUDING ALL)")
    ours = '[sources.default]\nprofile = "ours"\n[profiles.ours]\nextends = "protea"\njobs.table = "other_job"\n'
    [source] = diff(reaper, ours)
    assert source["note"] == "the jobs are in another table: other_job, not job"
    assert (source["present"]["stale"], source["new"]["running"], source["jobs"]) == (1, 0, [])


def test_list_is_bounded_and_a_breaker_that_would_hold_is_told(reaper: Reaper, protea: Protea) -> None:
    for _ in range(5):
        protea.stale(age=3 * HOUR)
    [source] = diff(reaper, 'timeout_seconds = "2h"\nbreaker_min = 3\n', "--limit", "2")
    assert (len(source["jobs"]), source["changed"]) == (2, {"young -> stale, ended by fail": 5})
    assert "5 of 5 running jobs fell silent" in source["held"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('timeout_secnds = "6h"\n', "new.toml:1: timeout_secnds: unknown name; did you mean 'timeout_seconds'?"),
        ("\ntimeout_seconds = -1\n", "new.toml:2: timeout_seconds: "),
        ("timeout_seconds =\n", "new.toml"),
    ],
)
def test_wrong_new_file_is_refused_with_its_line(reaper: Reaper, text: str, said: str) -> None:
    path = reaper.folder / "new.toml"
    path.write_text(text)
    result = reaper("diff", "--config", str(path))
    assert result.exit_code == exit_codes.CONFIGURATION and said in result.stderr
    missing = reaper("diff", "--config", str(reaper.folder / "nothing.toml"))
    assert missing.exit_code == exit_codes.CONFIGURATION and "nothing.toml" in missing.stderr


def test_database_that_is_away_is_an_error_of_its_source(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    new = f'[sources.default]\nprofile = "protea"\n[sources.far]\nprofile = "protea"\ndatabase_url = "{AWAY}"\n'
    near, far = diff(reaper, new, code=exit_codes.AWAY)
    assert (near["differs"], far["database_away"]) == (False, True)


def test_job_of_a_worker_that_is_gone_is_told_apart_by_what_the_daemon_has_seen(reaper: Reaper, protea: Protea) -> None:
    """The worker `q` has no row, and the daemon has not found one for an hour."""
    protea.connection.execute("CREATE TABLE worker (id text PRIMARY KEY, at timestamptz)")
    job, address = protea.job(age=HOUR), database_address(protea.source().engine)
    store = WorkerStateStore(StateFile(reaper.folder / "memory.sqlite3"))
    store.observe(address, "default", {"q": MISSING}, time.time() - HOUR, complete=True)
    worker = '{ table = "worker", match = { id = "queue_name" }, at = "at", gone_after = "3m" }'
    settings = f"""
        restart_grace = 0
        state_dir = "{reaper.folder}"
        [profiles.held]
        extends = "protea"
        alive = [{{ witness = "worker", worker = {worker} }}]
        [sources.default]
        profile = "held"
    """
    reaper.configure(settings)
    [source] = diff(reaper, settings + 'worker_lost = "fail"\n')
    assert source["changed"] == {"young -> stale, ended by fail": 1} and source["new"]["worker_lost"] == 1
    [changed] = source["jobs"]
    assert changed["job"] == job
    assert changed["because"][0].startswith("its worker is gone: not asked -> no row in worker since 20")
