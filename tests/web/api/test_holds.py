"""Holds over HTTP, with a real daemon that sweeps: nothing ends a held job until the hold is taken back."""

from __future__ import annotations

from tests.support.api import OPERATOR, ApiDaemon, shared_daemon
from tests.support.protea import MINUTE, Protea
from tests.support.waiting import wait_until

running, daemon, protea = shared_daemon("holds")
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
