"""The page over HTTP: what it says of a real daemon and a real database, to a reader without a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from reaper.common.reasons import is_reason
from reaper.dev.postgres import PrivatePostgreSQL
from tests.conftest import TEMPLATE
from tests.support.api import TOKEN, Answer, ApiDaemon, api_daemon, shared_daemon
from tests.support.daemons import PROJECT, Daemon, closed
from tests.support.pages import Page
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

running, daemon, protea = shared_daemon("page")


def page(daemon: ApiDaemon, path: str = "/", status: int = 200) -> Page:
    """What an operator sees. Their reads do not wait for a share of time, as reads without a token do after a few."""
    answer = daemon.api.ask("GET", path)
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


def fresh(daemon: ApiDaemon, path: str = "/") -> Page:
    """The page after a change in the database: the read cache is emptied first."""
    daemon.api.post("/api/sweeps", {"dry_run": True})
    assert daemon.api.post("/api/supervisor/halt").status == 200
    assert daemon.api.post("/api/supervisor/restart").status == 200
    return page(daemon, path)


# --- what is stuck -------------------------------------------------------------------------------------------


def test_page_begins_with_nothing_is_stuck(daemon: ApiDaemon) -> None:
    seen = page(daemon)
    assert seen.at("headline").startswith("Nothing is stuck")
    assert "No job is past its timeout." in seen.at("stuck-title")
    assert seen.title == "reaper"


def halted(daemon: ApiDaemon) -> None:
    """So that nothing is ended while it is looked at."""
    assert daemon.api.post("/api/supervisor/halt?reason=look+first").status == 200


def test_page_leads_to_the_runbook_and_serves_it(daemon: ApiDaemon) -> None:
    assert '<a href="/runbook">Runbook</a>' in daemon.api.get("/").text
    whole, one = daemon.api.get("/runbook"), daemon.api.get("/runbook/ReaperDeaf")
    assert whole.text == (PROJECT / "docs" / "runbook.md").read_text() and one.text in whole.text
    assert one.text.startswith("## ReaperDeaf\n") and one.headers["content-type"].startswith("text/plain")
    missing = daemon.api.get("/runbook/ReaperDef")
    assert missing.status == 404 and "did you mean 'ReaperDeaf'?" in missing.text


def test_jobs_past_their_timeout_are_listed_oldest_first_with_the_reason(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    stale = protea.stale(age=8 * HOUR, operation="embed")
    spared = protea.job(age=9 * HOUR, operation="predict")
    protea.event(spared, age=10 * MINUTE)
    protea.job(age=MINUTE)
    seen = page(daemon)
    assert seen.jobs == [spared, stale]
    assert seen.title == "1 stuck · reaper"
    listed = seen.at("stuck-title")
    assert "spared predict" in listed and "stale embed" in listed
    assert re.search(r"past its timeout of 6h, but alive: job_event 1\dm( \d+s)? ago \(stall window 30m\)", listed)
    assert "no sign of life for 2h (stall window 30m) after running for 8h (timeout 6h)" in listed
    assert {"age 8h, timeout 6h", "silence 2h, stall window 30m"} <= set(seen.values("aria-label"))
    assert "halted by tester over HTTP" in listed and "nothing is ended until" in listed
    assert re.search(r"stale in 1\dm( \d+s)? if it shows no further sign of life", listed)


def test_page_needs_no_token_and_is_the_same_with_one(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    job = protea.stale()
    for path in ("/", f"/jobs/default/{job}"):
        answer = daemon.api.get(path)
        with_token, without = page(daemon, path), Page(answer.text)
        assert answer.status == 200
        assert (without.title, without.jobs, without.values("data-act"), without.values("data-job")) == (
            with_token.title, with_token.jobs, with_token.values("data-act"), with_token.values("data-job")
        )  # fmt: skip
        assert "Halted by tester" in without.at("headline") and "Halted by tester" in with_token.at("headline")


def test_page_begins_with_a_halt_its_operator_and_its_reason(daemon: ApiDaemon) -> None:
    halted(daemon)
    seen = page(daemon)
    assert seen.at("headline").startswith("Halted by tester over HTTP from 127.0.0.1:")
    assert "Reason: look first." in seen.at("headline")
    assert "HALTED" in seen.at("sources-title")
    assert "looks in" in seen.at("sources-title")
    assert "restart" in seen.values("data-act") and "sweep" not in seen.values("data-act")


def test_job_whose_row_is_held_is_shown_with_the_holder(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    with protea.connect() as other:
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (job,))
        listed = fresh(daemon).at("stuck-title")
        assert f"its row is locked by process {other.info.backend_pid}" in listed


def test_jobs_held_by_the_breaker_are_shown_with_the_count_that_releases_them(
    daemon: ApiDaemon, protea: Protea
) -> None:
    for _ in range(60):
        protea.stale()
    [done] = daemon.api.post("/api/sweeps", {}).json["sweeps"]
    assert done["outcome"] == "held"
    seen = page(daemon)
    assert seen.at("headline").startswith("The breaker holds 60 jobs")
    assert "60 of 60 running jobs fell silent" in seen.at("headline")
    assert "held by the breaker until it is released" in seen.at("stuck-title")
    assert "open: default" in seen.at("sources-title")
    assert "release" in seen.values("data-act") and "60" in seen.values("data-count")
    assert len(seen.jobs) == 25
    second = page(daemon, "/?page=2")
    assert len(second.jobs) == 25 and not set(second.jobs) & set(seen.jobs)
    assert len(page(daemon, "/?page=3").jobs) == 10
    assert "No more jobs." in page(daemon, "/?page=4").at("stuck-title")


def test_action_bears_the_address_of_the_job_and_not_its_shown_name(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    job = protea.stale()
    for path in ("/", f"/jobs/default/{job}"):
        assert set(page(daemon, path).values("data-job")) == {f"/jobs/default/{job}"}


# --- filter --------------------------------------------------------------------------------------------------


def test_jobs_are_filtered_by_the_form_without_a_script(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    stale = protea.stale(operation="embed")
    other = protea.stale(operation="predict", age=9 * HOUR)
    spared = protea.job(age=10 * HOUR, operation="embed")
    protea.event(spared)
    young = protea.job(age=MINUTE, operation="embed")
    assert page(daemon, "/?verdict=stale").jobs == [other, stale]
    assert page(daemon, "/?verdict=spared").jobs == [spared]
    assert page(daemon, "/?verdict=young").jobs == [young]
    assert page(daemon, "/?verdict=running").jobs == [spared, other, stale, young]
    assert page(daemon, "/?kind=embed").jobs == [spared, stale]
    assert page(daemon, "/?kind=embed&verdict=stale&source=default").jobs == [stale]
    assert page(daemon, "/?kind=no_such").jobs == []
    assert "No job is like that" in page(daemon, "/?kind=no_such").at("stuck-title")
    kept = page(daemon, "/?kind=embed&verdict=young")
    assert "embed" in kept.values("value", "input")


NONSENSE = ("verdict=stael", "page=-1", "page=x", "page=99999999999", "page=%D9%A3", "kind=%FF", "x=y")


def test_queries_that_make_no_sense_are_ignored(daemon: ApiDaemon) -> None:
    for query in NONSENSE:
        assert page(daemon, f"/?{query}").at("headline").startswith("Nothing is stuck"), query


def test_unknown_source_is_answered_with_the_nearest_name(daemon: ApiDaemon) -> None:
    assert "There is no source 'defautl'; did you mean 'default'?" in page(daemon, "/?source=defautl").text


def test_kind_with_a_nul_makes_the_source_unreadable_and_not_the_page(daemon: ApiDaemon) -> None:
    assert "cannot be read just now" in page(daemon, "/?kind=%00").at("stuck-title")


def test_two_sources_are_listed_as_one_oldest_first(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    urls = {name: server.create_database(f"page_{name}", tables=False, template=TEMPLATE) for name in ("a", "b")}
    config = "".join(f'[sources.{name}]\ndatabase_url = "{url}"\n' for name, url in urls.items())
    with ApiDaemon(tmp_path, f'[kinds.embed]\ntimeout_seconds = "7h"\n{config}') as daemon:
        wait_until(lambda: daemon.sweeps(source="a") and daemon.sweeps(source="b"), "both have been swept")
        halted(daemon)
        jobs = []
        for name, url, age in (("a", urls["a"], 12 * HOUR), ("b", urls["b"], 11 * HOUR), ("a", urls["a"], 10 * HOUR)):
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
                jobs.append((name, Protea(url, connection).stale(age=age)))
        seen = fresh_until(daemon, 3)
        assert seen.jobs == [job for _, job in jobs]
        assert page(daemon, "/?source=b").jobs == [jobs[1][1]]
        with closed(server.url_of("postgres").replace("+psycopg", ""), "page_b"):
            wait_until(lambda: "cannot be read" in page(daemon, "/?verdict=stale").text, "b is away")
            left = page(daemon, "/?verdict=stale")
            assert left.jobs == [jobs[0][1], jobs[2][1]]
            assert "Not all is shown: the jobs of b cannot be read just now." in left.text
            assert left.at("headline").startswith("The database of b is away")
    for name in urls:
        server.drop_database(f"page_{name}")


def test_jobs_that_cannot_be_read_are_shown_with_the_reason(daemon: ApiDaemon, protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job RENAME COLUMN operation TO work")
    try:
        seen = page(daemon, "/?verdict=running")
    finally:
        protea.connection.execute("ALTER TABLE job RENAME COLUMN work TO operation")
    strip_and_table = seen.at("sources-title")
    assert "Its jobs could not be read just now" in strip_and_table and "operation" in strip_and_table
    assert "away" not in strip_and_table
    assert "cannot be read just now" in seen.at("stuck-title")


def fresh_until(daemon: ApiDaemon, jobs: int) -> Page:
    return wait_until(lambda: len((seen := page(daemon)).jobs) == jobs and seen, f"{jobs} jobs")  # type: ignore[return-value]


# --- the rest of the first page ------------------------------------------------------------------------------


def test_reaped_jobs_are_shown_with_by_whom_and_why(daemon: ApiDaemon, protea: Protea) -> None:
    by_sweep = protea.stale(operation="embed")
    [done] = daemon.api.post("/api/sweeps", {}).json["sweeps"]
    by_hand = protea.job(age=MINUTE, operation="predict")
    assert daemon.api.end("fail", by_hand, daemon.api.job(by_hand).json["job"]["started"]).status == 200
    announced = page(daemon).at("ended-title")
    assert f"{by_sweep} " in announced
    why = "silent for 2h, last heard from job_event, running for 8h"
    assert f"JobTimeout (action fail) by sweep {done['sweep_id']}: {why}" in announced
    assert "ManualTimeout (action fail) by tester over HTTP from" in announced
    assert announced.index(by_hand) < announced.index(by_sweep), "newest first"
    changes = page(daemon).at("changes-title")
    assert f"fail default {by_hand}" in changes and "its node is gone" in changes


def test_late_sign_is_shown_with_the_evidence_for_which_the_job_was_ended(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale(operation="embed")
    daemon.api.post("/api/sweeps", {})
    protea.connection.execute(
        "UPDATE job SET status = 'succeeded', finished_at = clock_timestamp() WHERE id = %s", (job,)
    )
    daemon.api.post("/api/sweeps", {})
    seen = page(daemon)
    late = seen.at("late-title")
    assert "Finished after it was ended: its status is succeeded instead of failed" in late
    assert "Ended as JobTimeout: silent for 2h" in late
    assert "late sign" in seen.at("ended-title")
    assert "Finished after it was ended" in page(daemon, f"/jobs/default/{job}").text.replace("finished", "Finished")


def test_sweeps_are_drawn_and_can_be_read_as_a_table(daemon: ApiDaemon, protea: Protea) -> None:
    protea.stale()
    [done] = daemon.api.post("/api/sweeps", {}).json["sweeps"]
    seen = page(daemon)
    table = seen.at("sweeps-table")
    assert done["sweep_id"] in table
    assert re.search(r"default \d+ sweeps?: \d+ done", seen.at("sweeps-title"))
    assert seen.html.count('class="column') >= 1
    assert re.search(r"<desc [^>]*>\d+ sweeps: [^<]*\d+ reaped; the longest took", seen.html)


def test_policy_shows_each_value_and_its_origin_and_no_secret(daemon: ApiDaemon, protea: Protea) -> None:
    seen = page(daemon)
    for name, value, origin in (
        ("interval_seconds", "1h", "REAPER_INTERVAL_SECONDS"),
        ("sources.default.stall_seconds", "30m", "default"),
    ):
        assert f"{name}{value}{origin}".replace(" ", "") in seen.at("policy").replace(" ", "")
    assert TOKEN not in seen.html


def test_running_jobs_are_counted_by_kind(daemon: ApiDaemon, protea: Protea) -> None:
    for kind in ("embed", "embed", "predict"):
        protea.job(age=MINUTE, operation=kind)
    counted = fresh(daemon).at("kinds-title")
    assert re.search(r"embed 2 predict 1$", counted), counted


# --- one job -------------------------------------------------------------------------------------------------


def test_running_job_is_explained_and_drawn(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    job = protea.stale(operation="embed")
    seen = page(daemon, f"/jobs/default/{job}")
    assert job in seen.at("headline")
    assert "No sign of life for 2h" in seen.at("headline")
    assert "Halted by tester" in seen.at("headline")
    assert "timeout6h, from default" in seen.at("facts-title").replace(" 6h", "6h")
    described = re.search(r'<desc id="drawn-desc">([^<]*)</desc>', seen.html)
    assert described is not None
    order = ["started (started_at), 8h ago", "timeout 6h, 2h ago", "sign of life: job_event, 2h ago", "now: stale, now"]
    assert all(announced in described[1] for announced in order), described[1]
    assert seen.title == f"stale: {job} · reaper"


def test_ended_job_is_drawn_with_the_evidence_for_which_it_was_ended(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    daemon.api.post("/api/sweeps", {})
    seen = page(daemon, f"/jobs/default/{job}")
    assert "Its status is failed." in seen.at("headline")
    assert "as JobTimeout (action fail), by a sweep: silent for 2h" in seen.at("headline")
    assert "JobTimeout" in seen.at("past-title")
    described = re.search(r'<desc id="drawn-desc">([^<]*)</desc>', seen.html)
    assert described is not None
    assert "sign of life: job_event, 2h" in described[1] and "ended: JobTimeout" in described[1]
    assert described[1].count("sign of life") == 1, "the reaper's own event is none"
    assert "fail" not in seen.values("data-act")


def test_job_whose_row_is_gone_is_shown_as_long_as_the_daemon_remembers_it(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    daemon.api.post("/api/sweeps", {})
    protea.connection.execute("DELETE FROM job WHERE id = %s", (job,))
    seen = page(daemon, f"/jobs/default/{job}")
    assert "its row is gone" in seen.at("headline")
    assert "JobTimeout (action fail) by sweep" in seen.at("past-title")


NO_JOBS = ("nothing", "a/b", "<script>alert(1)</script>", "é☃", "\0", '"', "a\nb", "x" * 900)


def test_unknown_jobs_have_a_page_that_says_so(daemon: ApiDaemon) -> None:
    for name in NO_JOBS:
        seen = page(daemon, f"/jobs/default/{quote(name, safe='')}", 404)
        assert "There is no such job" in seen.text, name
        assert "<script>alert" not in seen.html, name


def test_unknown_source_has_no_page_of_a_job(daemon: ApiDaemon) -> None:
    assert "did you mean 'default'?" in page(daemon, "/jobs/defautl/1", 404).text


# --- trouble -------------------------------------------------------------------------------------------------


def test_page_says_that_the_database_is_away_and_what_is_known(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    with api_daemon(server, tmp_path, "page_away", interval_seconds=1) as (daemon, protea):
        job = protea.stale(operation="embed")
        wait_until(lambda: protea.status(job) == "failed", "it is reaped")
        with closed(server.url_of("postgres").replace("+psycopg", ""), "page_away"):
            wait_until(lambda: page(daemon).title.startswith("!"), "the page has noticed")
            wait_until(lambda: "database away: " in page(daemon).at("sources-title"), "a sweep has noticed")
            seen = page(daemon)
            assert seen.at("headline").startswith("The database is away")
            assert job in seen.at("ended-title")
            assert re.search(r"failed in \d+ ms(, \d+ reaped)? \d+ \d+ \d+ ", seen.at("sources-title")), "as seen last"
            wait_until(lambda: daemon.api.get(f"/jobs/default/{job}").status == 200, "what is known of the job")
            unknown = daemon.api.get("/jobs/default/00000000-0000-0000-0000-000000000001")
            assert unknown.status == 503 and "The database is away" in Page(unknown.text).text
        wait_until(lambda: page(daemon).at("headline").startswith("Nothing is stuck"), "it is back")


SHOP = """
[sources.default]
profile = "shop"

[profiles.shop]
time = "naive"
alive = [{ witness = "heartbeat", column = "heartbeat_at" }]
jobs = { table = "jobs", key = "id", started = "started_at", running = { column = "state", in = ["working"] } }
actions = { fail = { set = { state = "dead" } } }
"""


def test_page_says_which_column_is_not_in_utc_and_leaves_its_jobs(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("page_zone", tables=False)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE page_zone SET timezone TO 'America/New_York'")
        connection.execute(
            "CREATE TABLE jobs (id int PRIMARY KEY, state text, started_at timestamp,"
            " heartbeat_at timestamp DEFAULT now())"
        )
        connection.execute("SET timezone TO 'America/New_York'")
        connection.execute("INSERT INTO jobs VALUES (1, 'working', localtimestamp - interval '12 h')")
    with ApiDaemon(tmp_path, SHOP, database_url=url) as daemon:
        daemon.has_swept()
        said = "jobs.heartbeat_at has no time zone, and the server fills it (DEFAULT now()) in America/New_York"
        assert said in page(daemon).at("sources-title")
        job = page(daemon, "/jobs/default/1").text
        assert said in job and "it is left alone until it is known whether it is alive" in job
        assert "its moments are unknown until its zone is said" in job
        shown = daemon.api.job("1").json["job"]
        assert (shown["silence_seconds"], shown["last_sign"], shown["stale_in_seconds"]) == (None, None, None)
        assert said in shown["unknown"] and shown["age_seconds"] > 12 * HOUR
        for seen in (job, page(daemon).text):
            assert "silent for an unknown time, but it may be alive" in seen and not re.search(r"silent for \d", seen)
        assert daemon.metrics.value("reaper_columns_with_unknown_moments", source="default") == 1
    server.drop_database("page_zone")


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 191 }}{% raw %}",
    "\u202egnp.exe",
    "line\nbreak\ttab",
    "x" * 10_000,
    "&amp;&lt;",
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_kind_is_shown_and_does_nothing(daemon: ApiDaemon, protea: Protea, kind: str) -> None:
    job = protea.stale(operation=kind, age=8 * HOUR)
    halted = daemon.api.post(f"/api/supervisor/halt?reason={quote(kind[:400])}")
    assert halted.status == (200 if is_reason(kind) else 422)
    first, own = page(daemon), page(daemon, f"/jobs/default/{job}")
    ordinary = {"script": 1, "img": 0}
    for seen in (first, own):
        assert all(seen.html.count(f"<{tag}") == count for tag, count in ordinary.items())
        assert "\u202e" not in seen.html and "1337" not in seen.at("stuck-title")
        assert len(seen.html) < 150_000
    shown = kind.encode("unicode_escape").decode() if not kind.isprintable() else kind
    shown = shown if len(shown) <= 200 else f"{shown[:200]}... ({len(shown)} characters)"
    assert (shown if len(shown) <= 160 else f"{shown[:80]}…{shown[-80:]}") in first.at("stuck-title")
    assert shown in own.text, "all of it that the database sends"


def test_page_has_nothing_inline_that_its_content_policy_forbids(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    job = protea.stale()
    for path in ("/", f"/jobs/default/{job}"):
        answer = daemon.api.get(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        seen = Page(answer.text)
        assert not [found for found in seen.attributes if found[1] == "style" or found[1].startswith("on")]
        assert seen.values("src", "script") == ["/static/page.js"]
        assert "<style" not in seen.html and "javascript:" not in seen.html
        ids = seen.values("id")
        assert len(ids) == len(set(ids)), "every id is one element's"


# --- who may change, and how pages are kept ------------------------------------------------------------------


def test_actions_are_explained_and_not_offered_without_a_token(database: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=database) as daemon:
        daemon.comes_up()
        wait_until(lambda: daemon.sweeps() >= 1, "the first sweep")
        answer = daemon.get("/")
        assert answer is not None and answer[0] == 200
        seen = Page(answer[1])
        assert not seen.values("data-act")
        assert "Read-only: how to act from here" in seen.text and "REAPER_HTTP_TOKEN_FILE" in seen.text
        assert "dialog" not in {tag for tag, _, _ in seen.attributes}


def test_actions_are_hidden_without_a_script(daemon: ApiDaemon, protea: Protea) -> None:
    halted(daemon)
    protea.stale()
    seen = page(daemon)
    assert {"fail", "restart", "dry-run"} == set(seen.values("data-act"))
    html = re.sub(r"<(div|td|th)[^>]*needs-js[^>]* hidden>.*?</\1>", "", seen.html, flags=re.DOTALL)
    assert not re.findall(r'<button(?![^>]* hidden)[^>]*data-act="[^"]*"[^>]*>', html)


def conditional(daemon: ApiDaemon, path: str, etag: str) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    try:
        connection.request("GET", path, headers={"If-None-Match": etag})
        answer = connection.getresponse()
        body = answer.read()
        assert (answer.status == 304) is (body == b"")
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/static/page.css", "/static/page.js", "/static/icon.svg"])
def test_static_files_are_not_sent_again_unless_they_have_changed(daemon: ApiDaemon, path: str) -> None:
    answer: Answer = daemon.api.get(path)
    assert answer.status == 200 and answer.headers["cache-control"] == "no-cache"
    assert conditional(daemon, path, answer.headers["etag"]) == 304
    assert conditional(daemon, path, f'W/{answer.headers["etag"]}, "x"') == 304
    assert conditional(daemon, path, '"x"') == 200


@pytest.mark.parametrize("name", ["nothing.css", "..%2F__init__.py", "page.css%00", "__init__.py", ""])
def test_static_files_are_the_only_files_that_are_served(daemon: ApiDaemon, name: str) -> None:
    assert daemon.api.get(f"/static/{name}").status == 404


def test_page_is_not_sent_again_unless_it_has_changed(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    # A daemon without a past: each time that a page shows changes it once a second, and another part of the second.
    with api_daemon(server, tmp_path, "page_etag", interval_seconds=3600) as (daemon, _):
        halted(daemon)
        path = "/?verdict=young"
        wait_until(
            lambda: conditional(daemon, path, daemon.api.get(path).headers["etag"]) == 304, "it is the same page"
        )
        assert daemon.api.post("/api/supervisor/restart").status == 200
        assert page(daemon, path).at("headline").startswith("Nothing is stuck")


def test_page_without_its_frame_has_the_part_that_changes(daemon: ApiDaemon) -> None:
    seen = page(daemon, "/?part=live")
    assert seen.html.lstrip().startswith('<div id="live"') and "<html" not in seen.html
    assert "Nothing is stuck" in seen.text and seen.values("data-title") == ["reaper"]


def test_templates_are_not_loaded_before_the_first_request_for_a_page() -> None:
    script = "import sys, reaper.daemon.main; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
