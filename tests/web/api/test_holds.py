"""Holds over HTTP, with a real daemon that sweeps: nothing ends a held job until the hold is taken back."""

from __future__ import annotations

from typing import Any

from tests.support.api import OPERATOR, ApiDaemon, shared_daemon
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until
from tests.sweep.test_quiet_times import around

CONFIG = """
[kinds.train]
timeout_seconds = "2d"
[sources.default]
profile = "ours"
never = [{{ kind = "migrate_*" }}]
{}
[profiles.ours]
extends = "protea"
[profiles.ours.actions.requeue]
set = {{ status = "queued" }}
"""
running, daemon, protea = shared_daemon("holds", config=CONFIG.format(""))
REASON = {"duration": "3h", "reason": "Ann looks at it"}


def test_held_job_is_shown_and_left_by_sweeps_and_requests_until_it_is_taken_back(
    daemon: ApiDaemon, protea: Protea
) -> None:
    api, job = daemon.api, protea.job(age=MINUTE)
    taken = api.post(f"{api.at(job)}/hold", REASON)
    assert taken.status == 200, taken.text
    held = taken.json
    assert (held["id"], held["by"].split()[0], held["reason"], held["running"]) == (
        job, OPERATOR, "Ann looks at it", True,
    )  # fmt: skip
    [note] = held["notes"]
    assert note.startswith("There is no state directory: the hold ends with this process")
    assert api.job(job).json["hold"] == {name: held[name] for name in ("until", "by", "reason")}
    assert [hold["id"] for hold in api.get("/api/holds").json["holds"]] == [job]
    protea.connection.execute("UPDATE job SET started_at = now() - interval '9 h' WHERE id = %s", (job,))
    [swept] = api.post("/api/sweeps", {"source": "default"}).json["sweeps"]
    assert (swept["reaped"], swept["census"]["kept"], [kept["id"] for kept in swept["kept"]]) == (0, 1, [job])
    explained = api.job(job).json
    assert [left["reason"] for left in explained["job"]["left"]] == ["hold"]
    refused = api.end("fail", job, explained["job"]["started"])
    assert refused.status == 409 and f"`reaper unhold {job} --source default` takes the hold back" in refused.detail
    assert protea.status(job) == "running"
    page = api.get(f"/jobs/default/{job}").text
    assert 'data-act="unhold"' in page and "on hold until" in page and "Ann looks at it" in page
    metrics = api.get("/metrics").text
    assert 'reaper_jobs_kept{source="default"} 1.0' in metrics and 'reaper_jobs_held{source="default"} 1.0' in metrics
    assert api.post(f"{api.at(job)}/unhold").status == 200
    assert api.get("/api/holds").json["holds"] == []
    assert 'data-act="hold"' in api.get(f"/jobs/default/{job}").text
    api.post("/api/sweeps", {"source": "default"})
    wait_until(lambda: protea.status(job) == "failed", "the job was ended")


def test_hold_needs_a_token_a_time_that_ends_and_a_reason(daemon: ApiDaemon, protea: Protea) -> None:
    api, job = daemon.api, protea.job(age=MINUTE)
    assert api.ask("POST", f"{api.at(job)}/hold", REASON, token=False).status == 401
    assert api.ask("POST", f"{api.at(job)}/unhold", token=False).status == 401
    for wrong in ({"duration": "32d"}, {"duration": "0s"}, {"duration": "soon"}, {"reason": " "}):
        assert api.post(f"{api.at(job)}/hold", {**REASON, **wrong}).status == 422, wrong
    assert api.post(f"{api.at('00000000-0000-0000-0000-000000000000')}/hold", REASON).status == 404
    refused = api.post(f"{api.at(job)}/unhold")
    assert refused.status == 404 and refused.detail.startswith(f"no hold on job {job}")


def test_holds_are_audited(daemon: ApiDaemon, protea: Protea) -> None:
    api, job = daemon.api, protea.job(age=MINUTE)
    api.post(f"{api.at(job)}/hold", REASON)
    api.post(f"{api.at(job)}/unhold")
    changes = api.get("/api/changes?limit=2").json
    assert "unhold" in str(changes) and "held until" in str(changes)


# --- requests that end many jobs ----------------------------------------------------------------------------------


def sweep(daemon: ApiDaemon, *, dry_run: bool = False) -> tuple[int, int, str]:
    """How many jobs it has ended, or would; how many it has left, and what it says."""
    [swept] = daemon.api.post("/api/sweeps", {"dry_run": dry_run}).json["sweeps"]
    return swept["reaped"] or len(swept["would_reap"]), swept["census"]["kept"], str(swept)


def cleanup(daemon: ApiDaemon, *, dry_run: bool = False) -> tuple[int, int, str]:
    done = daemon.api.post("/api/executions/cleanup", {"older_than_minutes": 60, "dry_run": dry_run}).json
    return done["cancelled_count"], done["spared_count"], " ".join(done["notes"])


def cleared(daemon: ApiDaemon, *, dry_run: bool = False) -> dict[str, Any]:
    task = daemon.api.post("/api/admin/clear-stuck-jobs", {"max_age_hours": 3, "dry_run": dry_run}).json["task_id"]
    result = wait_until(lambda: daemon.api.get(f"/api/admin/clear-stuck-jobs/{task}").json["result"], "its end")
    return dict(result["sources"]["default"])


def clear(daemon: ApiDaemon, *, dry_run: bool = False) -> tuple[int, int, str]:
    source = cleared(daemon, dry_run=dry_run)
    ended = source["census"]["stale"] - source["census"]["kept"] if dry_run else source["reaped"]
    return ended, source["census"]["kept"], " ".join(source["notes"])


MANY = {"sweep": sweep, "cleanup": cleanup, "clear": clear}


def test_dry_run_counts_neither_held_jobs_nor_kinds_that_are_never_ended(daemon: ApiDaemon, protea: Protea) -> None:
    held, never = protea.stale(age=8 * HOUR), protea.stale(operation="migrate_index")
    protea.stale()
    assert daemon.api.post(f"{daemon.api.at(held)}/hold", REASON).status == 200
    for way in MANY.values():
        ended, _, _ = way(daemon, dry_run=True)
        assert ended == 1
    said = cleanup(daemon)[2]
    assert "migrate_*" in said and "Ann looks at it" in said
    started = daemon.api.job(never).json["job"]["started"]
    refused = daemon.api.end("fail", never, started)
    assert refused.status == 409 and "Change `never` (" in refused.detail, refused.text
    assert daemon.api.post(f"{daemon.api.at(held)}/unhold").status == 200


def test_clearing_and_its_dry_run_count_what_a_longer_limit_of_its_kind_spares(
    daemon: ApiDaemon, protea: Protea
) -> None:
    longer, other = protea.stale(operation="train"), protea.stale()
    for dry_run in (True, False):
        source = cleared(daemon, dry_run=dry_run)
        assert (source["own_limits"], source["census"]["stale"]) == (1, 1)
        assert "Spared: 1 job(s) as old, because the limit of their kind or their row is longer." in source["notes"]
    assert [protea.status(job) for job in (longer, other)] == ["running", "failed"]


# --- a new configuration ------------------------------------------------------------------------------------------


def test_hold_outlasts_a_reload_and_a_quiet_time_begins_with_one(daemon: ApiDaemon, protea: Protea) -> None:
    held, other = protea.stale(), protea.job(age=MINUTE)
    daemon.api.post(f"{daemon.api.at(held)}/hold", REASON)
    daemon.reload(CONFIG.format('timeout_seconds = "3h"'))
    sweep(daemon)
    assert [hold["id"] for hold in daemon.api.get("/api/holds").json["holds"]] == [held]
    assert [protea.status(job) for job in (held, other)] == ["running", "running"]
    daemon.api.post(f"{daemon.api.at(held)}/unhold")
    quiet = around(protea.now(), 2 * MINUTE, 2 * HOUR)
    limits = f'quiet = "{quiet}"\nmost = "7 in 10m"'
    daemon.reload(CONFIG.format(limits))
    for way in MANY.values():
        ended, _, said = way(daemon)
        assert ended == 0 and "uiet" in said
    assert protea.status(held) == "running"
    policy = {each["name"]: each["value"] for each in daemon.api.get("/api/policy").json["settings"]}
    assert [policy[f"sources.default.{name}"] for name in ("never", "quiet", "most")] == [
        "migrate_*", quiet, "7 in 10m",
    ]  # fmt: skip
    assert f"at most 7 in 10m; quiet {quiet}; never migrate_*" in daemon.api.get("/").text
    daemon.reload(CONFIG.format(""))
    wait_until(lambda: sweep(daemon) and protea.status(held) == "failed", "a sweep after the quiet time")
