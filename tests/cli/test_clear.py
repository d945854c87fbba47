"""`reaper clear`, and the orphans of `reaper report`: on real databases, with real workers on a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from reaper.cli import exit_codes
from reaper.liveness import LivenessReport
from reaper.liveness.celery import CeleryProbe
from reaper.operations.orphaned_tasks import confirmed_orphans, orphans_of_all
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from tests.support.brokers import CeleryCluster, RedisServer
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, PATIENCE, Protea, thresholds
from tests.support.terminals import typed
from tests.support.waiting import wait_until
from tests.support.worlds.adhese import AdheseDeleteWorld, AdheseWorld
from tests.support.worlds.servers import postgresql_world
from tests.support.worlds.vuls import VulsWorld
from tests.support.worlds.world import State


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database})


# --- asking -----------------------------------------------------------------------------------------------------


def test_clear_without_a_terminal_refuses_in_one_line(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    result = reaper("clear")
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert result.stderr.startswith("reaper: standard input is not a terminal") and len(result.stderr.splitlines()) == 1
    assert "--yes" in reaper.json("clear", code=exit_codes.USAGE)["error"]
    assert protea.status(job) == "running"


def test_clear_with_force_or_yes_does_not_ask(reaper: Reaper, protea: Protea) -> None:
    for option in ("--force", "--yes"):
        job = protea.stale()
        assert "Reaped 1 stale job(s)." in reaper("clear", option).stdout
        assert protea.status(job) == "failed"


@pytest.mark.parametrize(
    "words",
    [
        ("clear", "--yes"),
        *(
            pytest.param(words, marks=pytest.mark.thorough)
            for words in (("clear", "--dry-run"), ("sweep", "--dry-run"), ("sweep",))
        ),
    ],
)
def test_longer_limit_of_a_kind_holds_and_the_output_counts_what_it_spared(
    reaper: Reaper, protea: Protea, words: tuple[str, ...]
) -> None:
    reaper.configure("[kinds.train]\ntimeout_seconds = '2d'\n[kinds.embed]\ntimeout_seconds = '1h'\n")
    train, embed = protea.stale(operation="train"), protea.stale(operation="embed")
    result = reaper(*words, "--older-than", "3h")
    assert result.exit_code == 0, result.output
    line = "Spared: 1 job(s) as old, because the limit of their kind or their row is longer."
    assert line in result.stdout and train not in result.stdout and embed in result.stdout
    assert protea.status(train) == "running"
    assert protea.status(embed) == ("running" if "--dry-run" in words else "failed")
    [source] = reaper.json(*words, "--older-than", "3h")["sources"]
    assert source["own_limits"] == 1
    assert "Spared" not in reaper(*words).stdout.replace("spared", ""), "no age was asked for"


def test_clear_takes_its_age_once(reaper: Reaper) -> None:
    both = reaper("clear", "--dry-run", "--older-than", "2h", "--max-age-hours", "2")
    assert both.exit_code == exit_codes.USAGE and "mean the same: give one of them" in both.stderr


def test_clear_at_a_terminal_shows_what_it_would_end_and_asks(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    status, shown, errors = typed(reaper, "n\n", "clear")
    assert status == 0 and job in shown and "Would reap 1 stale job(s)." in shown
    assert "End 1 stale job(s)? [y/N]" in errors and protea.status(job) == "running"
    status, shown, errors = typed(reaper, "y\n", "clear")
    assert status == 0 and "Reaped 1 stale job(s)." in shown and protea.status(job) == "failed"


def test_dry_run_needs_no_terminal_and_changes_nothing(reaper: Reaper, protea: Protea) -> None:
    job, before = protea.stale(), protea.dump()
    assert "Would reap 1 stale job(s). Nothing was changed." in reaper("clear", "--dry-run").stdout
    document = reaper.json("clear", "--dry-run")
    assert [found["key"] for found in document["sources"][0]["would_reap"]] == [job]
    assert (document["dry_run"], document["cleared"]) == (True, False) and protea.dump() == before


def test_force_does_not_pass_the_breaker_and_a_person_who_has_seen_it_does(reaper: Reaper, protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8h' FROM generate_series(1, 60)"
    )
    held = reaper("clear", "--force")
    assert held.exit_code == exit_codes.FAILED and "Held by the breaker" in held.stdout
    status, shown, _ = typed(reaper, "y\n", "clear")
    assert status == 0 and "The breaker would hold this sweep" in shown and "Reaped 60 stale job(s)." in shown


# --- how old ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [0.5, *(pytest.param(hours, marks=pytest.mark.thorough) for hours in (2, 24))])
def test_max_age_hours_is_the_timeout_and_limits_the_stall_window(reaper: Reaper, protea: Protea, hours: float) -> None:
    reaper.given["REAPER_STALL_SECONDS"] = "1h"
    older, younger = protea.job(age=hours * HOUR + 1), protea.job(age=hours * HOUR - 60)
    alive = protea.job(age=hours * HOUR * 2)
    protea.event(alive, age=min(hours, 1) * HOUR - 60)
    assert reaper.json("clear", "--force", "--max-age-hours", f"{hours}")["sources"][0]["reaped"] == 1
    assert protea.status(older) == "failed"
    assert (protea.status(younger), protea.status(alive)) == ("running", "running")
    fields = protea.audits(older)[0]["fields"]
    assert (fields["timeout_seconds"], fields["timeout_from"]) == (hours * HOUR, "--max-age-hours")
    assert fields["stall_seconds"] == min(hours, 1) * HOUR


def test_hours_that_are_none_are_wrong_usage(reaper: Reaper) -> None:
    for hours in ("0", "-1", "nan", "inf", "many"):
        result = reaper("clear", "--force", "--max-age-hours", hours)
        assert result.exit_code == exit_codes.USAGE and "--max-age-hours" in result.stderr, hours


# --- actions ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[AdheseWorld, AdheseDeleteWorld], ids=["complete", "delete"])
def adhese(request: pytest.FixtureRequest, databases: TemporaryDatabases) -> Iterator[AdheseWorld]:
    with postgresql_world(databases, request.param) as world:
        yield world


def test_action_option_works_for_clear_and_for_fail(adhese: AdheseWorld, reaper: Reaper) -> None:
    action = "delete" if isinstance(adhese, AdheseDeleteWorld) else "complete"
    reaper.given |= {"REAPER_DATABASE_URL": adhese.database.url, "REAPER_PROFILE": "adhese"}
    stale, single, other = adhese.stale_job(), adhese.alive_job(), adhese.alive_job()
    assert reaper.json("clear", "--force", "--action", action)["sources"][0]["reaped"] == 1
    assert adhese.state(stale) is State.REAPED
    document = reaper.json("fail", "--yes", single, "--action", action, "--reason", "its host is gone")
    message = f"Action '{action}' by operator: its host is gone ({document['operator']})"
    assert (document["action"], document["message"]) == (action, message)
    assert (adhese.state(single), adhese.state(other)) == (State.REAPED, State.RUNNING)


def test_unknown_action_is_answered_with_the_nearest_name(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    for words in (("clear", "--force"), ("fail", "--yes", job, "--reason", "x")):
        result = reaper(*words, "--action", "fial")
        assert result.exit_code == exit_codes.USAGE
        assert "Profile 'protea' has no action 'fial'; did you mean 'fail'?" in result.stderr
    assert protea.status(job) == "running"


# --- Celery -----------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vuls: VulsWorld, cluster: CeleryCluster) -> Reaper:
    """`reaper` for the runs and the schedules of vuls, both on one broker and one database."""
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": vuls.database.url, "REAPER_BROKER_URL": cluster.broker.url})
    reaper.configure(
        f"queues = ['{cluster.queue}']\n"
        "[sources.runs]\nprofile = 'vuls'\n[sources.schedules]\nprofile = 'vuls-schedule'\n"
    )
    return reaper


def run_of(vuls: VulsWorld, task: str, age: float = 8 * HOUR) -> str:
    return str(
        vuls.session.one(
            "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, started_at)"
            f" VALUES (7, %s, 'running', {vuls.database.ago}) RETURNING id",
            task,
            age,
        )
    )


def test_report_sums_up_stuck_runs_stuck_schedules_and_orphans(
    vuls: VulsWorld, runs: Reaper, cluster: CeleryCluster
) -> None:
    cluster.start_worker(), cluster.start_worker()
    known, orphan = cluster.start_task(), cluster.start_task()
    alive, dead = run_of(vuls, known.id), run_of(vuls, "no worker has it")
    vuls.session.do(
        "INSERT INTO scheduled_tasks (name, task_type, last_status, last_run_at)"
        " VALUES ('weekly', 'scan', 'running', now() - interval '1 day')"
    )
    document = runs.json("report")
    summary = document["summary"]
    assert summary["stuck_jobs"] == {"runs": 1, "schedules": 1}
    assert (summary["orphaned_tasks"], summary["total_stuck_jobs"], summary["unknown"]) == (1, 3, [])
    source, _ = document["sources"]
    assert {job["key"]: job["verdict"] for job in source["jobs"]} == {alive: "spared", dead: "stale"}
    assert [(found["id"], found["task"]) for found in source["orphans"]] == [(orphan.id, "chores.linger")]
    output = runs("report").stdout
    assert f"Orphan: task {orphan.id} (chores.linger) is being executed by " in output
    assert "Stuck in all: 3 (1 of runs, 1 of schedules, 1 orphaned task(s))." in output


def test_orphans_are_ended_only_when_asked_and_nothing_else_is(
    vuls: VulsWorld, runs: Reaper, cluster: CeleryCluster
) -> None:
    cluster.start_worker(), cluster.start_worker()
    known, orphan = cluster.start_task(), cluster.start_task()
    alive, dead = run_of(vuls, known.id), run_of(vuls, "no worker has it")
    cleared = runs.json("clear", "--force")
    assert [found["id"] for found in cleared["orphans"]] == [orphan.id] and cleared["revoked"] == []
    assert vuls.state(dead) is State.REAPED and vuls.state(alive) is State.RUNNING
    assert orphan.alive
    cleared = runs.json("clear", "--force", "--revoke-orphans")
    assert [found["id"] for found in cleared["revoked"]] == [orphan.id]
    wait_until(lambda: not orphan.alive, "the orphan has ended")
    assert known.alive and vuls.state(alive) is State.RUNNING


def test_task_whose_row_may_be_hidden_from_the_role_is_no_orphan(
    vuls: VulsWorld, runs: Reaper, cluster: CeleryCluster, tmp_path: Path
) -> None:
    cluster.start_worker()
    living = cluster.start_task()
    run_of(vuls, living.id, 600)
    role = f"policed_{vuls.session.one('SELECT current_database()')}"
    vuls.session.do(f"CREATE ROLE {role} LOGIN")
    try:
        vuls.session.do(f"GRANT ALL ON task_runs, scheduled_tasks TO {role}")
        vuls.session.do("ALTER TABLE task_runs ENABLE ROW LEVEL SECURITY")
        vuls.session.do("CREATE POLICY mine ON task_runs USING (celery_task_id = 'mine')")
        url = make_url(vuls.database.url).set(username=role).render_as_string()
        least = Reaper(tmp_path, {**runs.given, "REAPER_DATABASE_URL": url})
        fix = f"CREATE POLICY {role} ON public.task_runs TO {role} USING (true)"
        output = least("clear", "--source", "runs", "--force", "--revoke-orphans")
        assert output.exit_code != 0 and "no task is treated as one before " + fix in output.stderr
        assert living.alive and least.json("report", "--source", "runs")["sources"][0]["orphans"] is None
        found = least("check", "--source", "runs").stdout
        assert f"row-level security may hide rows from the role '{role}', so no task is treated as an orphan" in found
        vuls.session.do(fix)
        cleared = least.json("clear", "--source", "runs", "--force", "--revoke-orphans")
        assert (cleared["orphans"], cleared["revoked"]) == ([], [])
    finally:
        vuls.session.do(f"DROP OWNED BY {role}")
        vuls.session.do(f"DROP ROLE {role}")


def of_runs(vuls: VulsWorld, cluster: CeleryCluster) -> Source:
    witness = CeleryProbe(cluster.broker.url, 6, {cluster.queue}, absence_seconds=0)
    habits = SourceOptions(probe=witness, queues=(cluster.queue,))
    return Source("runs", vuls.database.url, resolve("vuls"), thresholds(), PATIENCE, habits)


def test_task_of_the_reaper_itself_is_no_orphan(vuls: VulsWorld) -> None:
    source = Source("runs", vuls.database.url, resolve("vuls"), thresholds(), PATIENCE)
    of_reaper = (
        "clear_stuck_scheduler_jobs", "get_stuck_jobs_report", "cleanup_old_task_runs_enhanced",
        "reset_scheduler_state",
    )  # fmt: skip
    names = {name: f"ours.schedule.{name}" for name in of_reaper} | {"theirs": f"{of_reaper[0]}.theirs"}
    workers = LivenessReport(frozenset(names), dict.fromkeys(names, "worker@host"), names)
    assert [orphan.id for orphan in orphans_of_all([source], workers, lambda: DowntimeTracker(0))] == ["theirs"]


def lasting_orphans(sources: list[Source], meanwhile: Callable[[], object]) -> list[str]:
    """Those that are left when something has happened between the two looks."""
    witness = sources[0].options.probe
    assert witness is not None
    found = confirmed_orphans(sources, witness.ask(), lambda: DowntimeTracker(0), lambda _: meanwhile())
    return [orphan.id for orphan in found]


def test_task_whose_row_is_committed_a_moment_later_is_no_orphan(vuls: VulsWorld, cluster: CeleryCluster) -> None:
    cluster.start_worker()
    task, source = cluster.start_task(), of_runs(vuls, cluster)
    assert lasting_orphans([source], lambda: None) == [task.id]
    with vuls.database.session() as server:
        server.do(
            "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status) VALUES (7, %s, 'running')", task.id
        )
        assert lasting_orphans([source], server.commit) == []


def test_task_that_ends_meanwhile_is_no_orphan(vuls: VulsWorld, cluster: CeleryCluster) -> None:
    cluster.start_worker()
    task, source = cluster.start_task(), of_runs(vuls, cluster)
    witness = source.options.probe
    assert witness is not None

    def end() -> None:
        task.finish()
        wait_until(lambda: not witness.ask().executing, "the task has ended")

    assert lasting_orphans([source], end) == []


def test_task_that_another_source_of_the_broker_knows_is_no_orphan(
    vuls: VulsWorld, cluster: CeleryCluster, databases: TemporaryDatabases
) -> None:
    cluster.start_worker()
    task = cluster.start_task()
    with postgresql_world(databases, VulsWorld) as other:
        run_of(other, task.id)
        assert lasting_orphans([of_runs(vuls, cluster), of_runs(other, cluster)], lambda: None) == []
        assert lasting_orphans([of_runs(vuls, cluster)], lambda: None) == [task.id]


def test_clear_of_one_source_revokes_no_task_that_another_source_of_the_broker_knows(
    vuls: VulsWorld, runs: Reaper, cluster: CeleryCluster, databases: TemporaryDatabases
) -> None:
    cluster.start_worker()
    task = cluster.start_task()
    with postgresql_world(databases, VulsWorld) as other:
        job = run_of(other, task.id, 600)
        runs.configure(
            f"queues = ['{cluster.queue}']\nprofile = 'vuls'\n"
            f"[sources.runs]\n[sources.others]\ndatabase_url = '{other.database.url}'\n"
        )
        cleared = runs.json("clear", "--source", "runs", "--force", "--revoke-orphans")
        assert (cleared["orphans"], cleared["revoked"]) == ([], [])
        other.session.do("DELETE FROM task_runs WHERE id = %s", job)
        cleared = runs.json("clear", "--source", "runs", "--force", "--revoke-orphans")
        assert [orphan["id"] for orphan in cleared["revoked"]] == [task.id]


def test_unavailable_broker_makes_jobs_unknown_and_is_reported(
    vuls: VulsWorld, runs: Reaper, redis: RedisServer
) -> None:
    job = run_of(vuls, "no worker has it")
    redis.down()
    report = runs.json("report")
    source = report["sources"][0]
    [found] = source["jobs"]
    assert found["verdict"] == "spared" and found["unknown"].startswith("Celery: broker 127.0.0.1")
    assert "but it may be alive: Celery: broker 127.0.0.1" in found["why"]
    assert source["witness"]["trouble"] and source["orphans"] is None and report["summary"]["unknown"] == ["runs"]
    explained = runs("explain", job, "--source", "runs")
    assert "unknown" in explained.stdout and "Celery: broker 127.0.0.1" in explained.stdout
    assert runs.json("explain", job, "--source", "runs")["job"]["unknown"] == found["unknown"]
    swept = runs("sweep", "--dry-run")
    assert "1 job(s) have been silent for longer than their stall window and were spared. Celery: " in swept.stdout
    assert runs.json("clear", "--force", code=exit_codes.FAILED)["errors"] and vuls.state(job) is State.RUNNING


# --- thresholds -------------------------------------------------------------------------------------------------


def test_runs_of_vuls_are_stuck_after_two_hours_and_other_jobs_as_configured(
    reaper: Reaper, protea: Protea, databases: TemporaryDatabases
) -> None:
    job = protea.stale(age=3 * HOUR)
    with postgresql_world(databases, VulsWorld) as vuls:
        young, stuck = vuls.job(age=1.9 * HOUR, sign=None), vuls.job(age=2.1 * HOUR, sign=None)
        reaper.configure(
            "[sources.main]\n[profiles.unasked]\nextends = 'vuls'\nalive = []\n"
            f"[sources.runs]\nprofile = 'unasked'\ndatabase_url = '{vuls.database.url}'\n"
        )
        reaper("clear", "--yes")
        statuses = dict(vuls.session.ask("SELECT id::text, status FROM task_runs"))
    assert statuses == {young: "running", stuck: "failed"}
    assert protea.status(job) == "running"


def test_cleanup_of_the_document_leads_to_purge(reaper: Reaper, protea: Protea) -> None:
    assert protea.stale()
    result = reaper("cleanup", "--days-to-keep", "30")
    assert result.exit_code == exit_codes.USAGE and "reaper purge --days-to-keep 30" in result.stderr
