"""The page in a real browser, over a real daemon and a real database: what people do with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from reaper.dev.postgres import PrivatePostgreSQL
from tests.support.api import ApiDaemon, api_daemon, shared_daemon
from tests.support.browsers import chromium, flaws, give_token, tab
from tests.support.daemons import closed
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

running, daemon, protea = shared_daemon("page_browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, daemon: ApiDaemon) -> Iterator[Page]:
    with tab(browser, daemon.port) as opened:
        yield opened


def keep(page: Page, name: str) -> None:
    """A picture of what a test saw: `PAGE_PICTURES` says where."""
    if folder := os.environ.get("PAGE_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def scene(protea: Protea) -> tuple[str, str]:
    """A stale job and a spared job, beside some young ones."""
    stale = protea.stale(age=8 * HOUR, operation="predict_go_terms")
    spared = protea.job(age=9 * HOUR, operation="compute_embeddings")
    protea.event(spared, age=MINUTE)
    for number in range(1, 6):
        protea.event(protea.job(age=number * MINUTE, operation="embed_batch"))
    return stale, spared


# --- reading -------------------------------------------------------------------------------------------------


def test_page_loads_and_can_be_filtered(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 job is stuck")
    expect(page.locator(".job")).to_have_count(2)
    expect(page.locator(".job").first).to_contain_text(spared)
    expect(page.locator(f'.job:has-text("{stale}")')).to_contain_text("ended by the next sweep, in 59m")
    keep(page, "stuck")
    page.get_by_label("Verdict").select_option("stale")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".job")).to_have_count(1)
    expect(page).to_have_url(re.compile("verdict=stale"))
    page.get_by_label("Kind", exact=True).fill("embed_batch")
    page.get_by_label("Verdict").select_option("young")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".job")).to_have_count(5)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".job")).to_have_count(2)


def test_page_can_be_read_without_a_script(browser: Browser, daemon: ApiDaemon, protea: Protea) -> None:
    stale, _ = scene(protea)
    with tab(browser, daemon.port, java_script_enabled=False) as page:
        page.goto("/?verdict=stale")
        expect(page.locator(".job")).to_have_count(1)
        expect(page.locator("[data-act]:visible")).to_have_count(0)
        expect(page.locator("dialog:visible")).to_have_count(0)
        page.get_by_text("Every setting, and where its value came from").click()
        expect(page.locator("#policy table")).to_be_visible()
        page.get_by_role("link", name=stale).click()
        expect(page.get_by_role("img", name="Timeline of the job")).to_be_visible()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "dark"),
        *(
            pytest.param(width, scheme, marks=pytest.mark.thorough)
            for width, scheme in [(1280, "light"), (768, "light"), (1280, "dark"), (768, "dark"), (360, "light")]
        ),
    ],
)
def test_page_has_no_accessibility_flaws(
    browser: Browser, daemon: ApiDaemon, protea: Protea, scheme: str, width: int
) -> None:
    stale, _ = scene(protea)
    protea.stale(operation="x" * 3000)
    reaped = protea.stale(operation="load_goa")
    started = daemon.api.job(reaped).json["job"]["started"]
    assert daemon.api.end("fail", reaped, started).status == 200
    with tab(browser, daemon.port, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        for name, path in (("first", "/"), ("job", f"/jobs/default/{stale}"), ("ended", f"/jobs/default/{reaped}")):
            page.goto(path)
            for each in page.locator("details").all():
                each.locator("summary").click()
            assert flaws(page) == []
            keep(page, f"{name}-{scheme}-{width}")
        page.goto("/")
        page.get_by_role("button", name="Dry run of default").click()
        assert flaws(page) == []
        give_token(page)
        expect(page.get_by_role("dialog")).to_contain_text("Nothing was changed")
        assert flaws(page) == []
        keep(page, f"dialog-{scheme}-{width}")


def test_unknown_job_has_a_page(browser: Browser, daemon: ApiDaemon) -> None:
    with tab(browser, daemon.port, expected=(404,)) as page:
        page.goto("/jobs/default/nothing")
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no such job")
        assert flaws(page) == []


def test_hostile_values_of_a_database_do_nothing_in_a_browser(page: Page, protea: Protea) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\">\u202e"
    protea.stale(operation=evil)
    page.goto("/")
    expect(page.locator(".job-kind")).to_contain_text("<img src=x")
    page.locator(".job").get_by_role("button").click()
    give_token(page)
    expect(page.get_by_role("dialog")).to_contain_text("<img src=x onerror")
    expect(page.get_by_role("dialog")).to_contain_text("\\u{202e}")
    assert page.locator("img").count() == 0 and page.title() != "taken"


# --- acting --------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_dry_run_shows_what_would_be_ended_and_changes_nothing(page: Page, protea: Protea) -> None:
    stale, _ = scene(protea)
    page.goto("/")
    page.get_by_role("button", name="Dry run of default").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Would reap 1 stale job(s). Nothing was changed.")
    expect(dialog).to_contain_text(stale)
    expect(dialog.get_by_role("button")).to_have_text(["Close"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Dry run of default")).to_be_focused()
    assert protea.status(stale) == "running"


def test_sweep_is_previewed_before_it_is_made(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    page.get_by_role("button", name="Sweep default now").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Would reap 1 stale job(s).")
    assert protea.status(stale) == "running"
    dialog.get_by_role("button", name="Sweep now").click()
    expect(dialog).to_contain_text("Reaped 1 stale job(s).")
    dialog.get_by_role("button", name="Close").click()
    assert (protea.status(stale), protea.status(spared)) == ("failed", "running")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is stuck")
    expect(page.locator("section", has_text="Reaped lately")).to_contain_text(stale)


def test_supervisor_is_halted_with_a_reason_and_restarted(page: Page, protea: Protea) -> None:
    stale, _ = scene(protea)
    page.goto("/")
    page.get_by_role("button", name="Halt…").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("default: 1 stale of 7 running stay as they are")
    dialog.get_by_label("Reason").fill("the <db> moves")
    dialog.get_by_role("button", name="Halt").click()
    expect(dialog).to_contain_text("The supervisor is HALTED.")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by tester over HTTP from 127.0.0.1")
    expect(page.locator("section.headline")).to_contain_text("the <db> moves")
    expect(page.locator(".job.stale")).to_contain_text("nothing is ended until `reaper restart`")
    keep(page, "halted")
    page.get_by_role("button", name="Restart…").click()
    expect(dialog).to_contain_text("Would reap 1 stale job(s).")
    dialog.get_by_role("button", name="Restart", exact=True).click()
    expect(dialog).to_contain_text("The supervisor is RUNNING.")
    dialog.get_by_role("button", name="Close").click()
    wait_until(lambda: protea.status(stale) == "failed", "it is swept at once")


@pytest.mark.thorough
def test_persistent_halt_without_a_state_directory_is_refused_in_words(browser: Browser, daemon: ApiDaemon) -> None:
    with tab(browser, daemon.port, expected=(409,)) as page:
        page.goto("/")
        page.get_by_role("button", name="Halt…").click()
        give_token(page)
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Stay halted").check()
        dialog.get_by_role("button", name="Halt").click()
        expect(dialog).to_contain_text("set REAPER_STATE_DIR")


def test_job_is_failed_with_its_evidence_in_the_dialog(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    page.get_by_role("button", name=f"Fail job {spared}").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("past its timeout of 6h, but alive")
    confirm = dialog.get_by_role("button", name="Fail", exact=True)
    confirm.click()
    expect(dialog).to_be_visible()
    assert protea.status(spared) == "running", "no reason was given"
    dialog.get_by_label("Reason").fill("its node is gone")
    keep(page, "fail")
    confirm.click()
    expect(dialog).to_contain_text("Manually marked FAILED by operator: its node is gone (tester over HTTP from")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".job")).to_have_count(1)
    row = protea.row(spared)
    assert (row["status"], row["error_code"]) == ("failed", "ManualTimeout")
    assert protea.status(stale) == "running"


def test_job_is_held_for_a_time_and_the_hold_is_taken_back_on_its_page(page: Page, protea: Protea) -> None:
    stale, _ = scene(protea)
    page.goto(f"/jobs/default/{stale}")
    page.get_by_role("button", name=f"Hold job {stale}").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("For how long").fill("2h")
    dialog.get_by_label("Reason").fill("Ann looks at it")
    keep(page, "hold")
    dialog.get_by_role("button", name="Hold", exact=True).click()
    expect(dialog).to_contain_text("Held until")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".headline")).to_contain_text("On hold until")
    page.get_by_role("button", name=f"Unhold job {stale}").click()
    dialog.get_by_role("button", name="Take back").click()
    expect(dialog).to_contain_text("It is no longer held.")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name=f"Hold job {stale}")).to_be_visible()
    assert protea.status(stale) == "running"


def test_job_that_has_changed_meanwhile_is_left_alone_and_shown(
    browser: Browser, daemon: ApiDaemon, protea: Protea
) -> None:
    stale, _ = scene(protea)
    with tab(browser, daemon.port, expected=(409,)) as page:
        page.goto(f"/jobs/default/{stale}")
        page.get_by_role("button", name=f"Fail job {stale}").click()
        give_token(page)
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("no sign of life for 2h")
        dialog.get_by_label("Reason").fill("it hangs")
        protea.connection.execute("UPDATE job SET started_at = now() WHERE id = %s", (stale,))
        dialog.get_by_role("button", name="Fail", exact=True).click()
        expect(dialog).to_contain_text("was started again: it runs since")
        expect(dialog).to_contain_text("What it is now:")
        expect(dialog).to_contain_text("young: running for")
        keep(page, "moved")
        expect(dialog.get_by_role("button")).to_have_text(["Close"])
        assert protea.status(stale) == "running"


def test_breaker_is_released_by_typing_the_count(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    jobs = [protea.stale(operation="embed_batch") for _ in range(60)]
    daemon.forget()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("The breaker holds 60 jobs")
    keep(page, "breaker")
    page.get_by_role("button", name="Release the breaker of default").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="End 60 jobs")
    expect(dialog).to_contain_text("The breaker would hold this sweep")
    expect(confirm).to_be_disabled()
    count = dialog.get_by_label("Type 60, the number of jobs that the breaker holds")
    count.fill("59")
    expect(confirm).to_be_disabled()
    page.keyboard.press("Enter")
    assert protea.status(jobs[0]) == "running"
    count.fill("60")
    keep(page, "release")
    confirm.click()
    expect(dialog).to_contain_text("Reaped 60 stale job(s).")
    assert {protea.status(job) for job in jobs} == {"failed"}


def test_wrong_token_is_reported_and_forgotten_and_no_token_is_in_a_url(
    browser: Browser, daemon: ApiDaemon, protea: Protea
) -> None:
    with tab(browser, daemon.port, expected=(401,)) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/")
        page.get_by_role("button", name="Halt…").click()
        give_token(page, "wrong-token-000000000")
        page.get_by_role("dialog").get_by_role("button", name="Halt", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="This is not one of its tokens.")).to_be_visible()
        give_token(page)
        expect(page.get_by_role("dialog")).to_contain_text("The supervisor is HALTED.")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Dry run of default").click()
        expect(page.get_by_role("dialog")).to_contain_text("Nothing was changed")
        page.keyboard.press("Escape")
        assert page.evaluate("() => localStorage.length + document.cookie.length") == 0
        page.get_by_role("button", name="Forget token").click()
        page.get_by_role("button", name="Dry run of default").click()
        expect(page.locator("#ask-token")).to_have_value("")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert not [url for url in asked if "token" in url]


def test_keyboard_is_enough_for_every_action(page: Page, protea: Protea) -> None:
    stale, _ = scene(protea)
    page.goto("/?verdict=stale")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")

    def reach(name: str) -> None:
        """As a user navigates who sees only where the focus is."""
        for _ in range(40):
            page.keyboard.press("Tab")
            at = "() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()"
            if page.evaluate(at) == name:
                outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", "it can be seen where the focus is"
                return
        raise AssertionError(f"{name} is not reached")

    reach(f"Fail job {stale}")
    page.keyboard.press("Enter")
    page.keyboard.type("a-token-for-tests-0123456789")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert protea.status(stale) == "failed"
    expect(page.locator(".job")).to_have_count(0)
    expect(page.get_by_role("heading", name="Jobs that are stale")).to_be_focused()


@pytest.mark.thorough
def test_halt_of_a_standby_says_that_another_replica_sweeps(
    browser: Browser, daemon: ApiDaemon, protea: Protea, tmp_path: Path
) -> None:
    with ApiDaemon(tmp_path, database_url=protea.url) as other:
        other.has_swept("standby")
        with tab(browser, other.port) as page:
            page.goto("/")
            page.get_by_role("button", name="Halt…").click()
            give_token(page)
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text(
                "default is swept by another replica; this halt does not reach it: halt that one too."
            )
            expect(dialog).to_contain_text("halt every one: the lease does not outlive a lost connection")
            dialog.get_by_role("button", name="Halt").click()
            expect(dialog).to_contain_text("The supervisor is HALTED.")
            dialog.get_by_role("button", name="Close").click()
            expect(page.locator("section.headline")).to_contain_text("This halt does not reach the replica that holds")
    with tab(browser, daemon.port) as page:
        page.goto("/")
        page.get_by_role("button", name="Halt…").click()
        give_token(page)
        expect(page.get_by_role("dialog")).to_contain_text("stale of")
        expect(page.get_by_role("dialog")).not_to_contain_text("is swept by another replica")


# --- a dialog is of one action -------------------------------------------------------------------------------


class DelayedAnswer:
    """The first answer to a request is kept back until the test releases it; later answers are not."""

    def __init__(self, page: Page, url: str, method: str = "GET") -> None:
        self._waiting: list[Route] = []
        self._method = method
        self._first = True
        page.route(url, self._take)

    def _take(self, route: Route) -> None:
        if self._first and route.request.method == self._method:
            self._first = False
            self._waiting.append(route)
        else:
            route.continue_()

    def let_go(self, page: Page) -> None:
        """Returns when the page has had the answer, and time to do something with it."""
        [route] = self._waiting
        route.fulfill(response=route.fetch())
        page.evaluate("async () => { for (const _ of [1, 2, 3]) await (await fetch('/static/icon.svg')).text(); }")


def test_late_preview_of_one_job_does_not_take_over_the_dialog_of_another(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    first = DelayedAnswer(page, f"**/api/jobs/default/{stale}")
    page.get_by_role("button", name=f"Fail job {stale}").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Asking the daemon")
    dialog.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name=f"Fail job {spared}").click()
    expect(dialog).to_contain_text(spared)
    first.let_go(page)
    expect(dialog).to_contain_text(spared)
    expect(dialog).not_to_contain_text(stale)
    dialog.get_by_label("Reason").fill("its node is gone")
    dialog.get_by_role("button", name="Fail", exact=True).click()
    expect(dialog).to_contain_text("Done.")
    assert (protea.status(stale), protea.status(spared)) == ("running", "failed")


@pytest.mark.thorough
def test_late_preview_of_a_sweep_does_not_take_over_the_dialog_of_a_job(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    first = DelayedAnswer(page, "**/api/sweeps", "POST")
    page.get_by_role("button", name="Sweep default now").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Asking the daemon")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=f"Fail job {spared}").click()
    expect(dialog).to_contain_text(spared)
    dialog.get_by_label("Reason").fill("its node is gone")
    first.let_go(page)
    expect(dialog).not_to_contain_text("Would reap")
    dialog.get_by_role("button", name="Fail", exact=True).click()
    expect(dialog).to_contain_text("Done.")
    assert (protea.status(stale), protea.status(spared)) == ("running", "failed"), "it was not swept"


@pytest.mark.thorough
def test_late_result_of_one_action_says_nothing_in_the_dialog_of_another(page: Page, protea: Protea) -> None:
    stale, spared = scene(protea)
    page.goto("/")
    page.get_by_role("button", name=f"Fail job {stale}").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("it hangs")
    first = DelayedAnswer(page, f"**/api/jobs/default/{stale}/fail", "POST")
    dialog.get_by_role("button", name="Fail", exact=True).click()
    dialog.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name=f"Fail job {spared}").click()
    expect(dialog).to_contain_text(spared)
    dialog.get_by_label("Reason").fill("not yet")
    first.let_go(page)
    wait_until(lambda: protea.status(stale) == "failed", "what was confirmed is done")
    expect(dialog).not_to_contain_text("Done.")
    expect(dialog).to_contain_text(spared)
    expect(dialog.get_by_role("button", name="Fail", exact=True)).to_be_enabled()
    assert protea.status(spared) == "running"


@pytest.mark.thorough
def test_token_refused_after_its_dialog_was_closed_is_not_asked_for_again(
    browser: Browser, daemon: ApiDaemon, protea: Protea
) -> None:
    scene(protea)
    with tab(browser, daemon.port, expected=(401,)) as page:
        page.goto("/")
        first = DelayedAnswer(page, "**/api/supervisor/halt?*", "POST")
        page.get_by_role("button", name="Halt…").click()
        give_token(page, "wrong-token-000000000")
        page.get_by_role("dialog").get_by_role("button", name="Halt", exact=True).click()
        page.keyboard.press("Escape")
        first.let_go(page)
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.get_by_role("button", name="Forget token")).to_be_hidden()


# --- refreshing ----------------------------------------------------------------------------------------------


def changes(daemon: ApiDaemon, protea: Protea, page: Page) -> None:
    """A job more than the page shows, and time enough for it to be seen."""
    scene(protea)
    daemon.api.post("/api/supervisor/halt")


def test_page_refreshes_itself_and_announces_changes(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is stuck")
    changes(daemon, protea, page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by")
    expect(page.locator("#announcer")).to_contain_text("Halted by")
    expect(page.locator(".job")).to_have_count(2)
    expect(page).to_have_title(re.compile("1 stuck"))


def test_refresh_keeps_focus_scroll_position_and_open_details(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    page.clock.install()
    for _ in range(15):
        protea.stale(operation="embed_batch")
    page.goto("/")
    page.get_by_text("Every setting, and where its value came from").click()
    page.get_by_text("The last sweeps as a table").click()
    page.get_by_label("Kind", exact=True).fill("half a wo")
    button = page.locator(".job").nth(7).get_by_role("button")
    button.focus()
    marked = button.evaluate("(each) => { each.marked = true; return each.dataset.job; }")
    page.mouse.wheel(0, 300)
    page.wait_for_function("() => scrollY > 200")
    daemon.api.post("/api/supervisor/halt")
    time_passes(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by")
    focused = page.evaluate("() => [document.activeElement.marked, document.activeElement.dataset.job]")
    assert focused == [True, marked]
    assert page.evaluate("() => scrollY") > 200
    expect(page.locator("#policy table")).to_be_visible()
    expect(page.locator("#sweeps-table table")).to_be_visible()
    expect(page.get_by_label("Kind", exact=True)).to_have_value("half a wo")


def time_passes(page: Page) -> None:
    """By the page's clock, which the test has installed: more seconds than lie between two refreshes, and no waiting.

    What the page has asked for meanwhile is known afterwards.
    """
    page.clock.run_for(4000)
    page.evaluate("async () => { await (await fetch('/static/icon.svg')).text(); }")


def counted(page: Page) -> list[str]:
    """The refreshes that are asked for from now on."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "part=live" in request.url else None)
    return asked


@pytest.mark.thorough
def test_refresh_waits_while_a_dialog_is_open(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    page.clock.install()
    page.goto("/")
    page.get_by_role("button", name="Halt…").click()
    give_token(page)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("I am typing")
    asked = counted(page)
    changes(daemon, protea, page)
    time_passes(page)
    assert asked == []
    expect(page.locator("#freshness")).to_have_text("Paused: a dialog is open")
    expect(dialog.get_by_label("Reason")).to_have_value("I am typing")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by")


@pytest.mark.thorough
def test_refresh_waits_while_text_is_selected(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    page.clock.install()
    stale, _ = scene(protea)
    page.goto("/")
    page.locator(f'.job:has-text("{stale}") .why').select_text()
    chosen = page.evaluate("() => String(getSelection())")
    asked = counted(page)
    daemon.api.post("/api/supervisor/halt")
    time_passes(page)
    assert asked == [] and page.evaluate("() => String(getSelection())") == chosen
    expect(page.locator("#freshness")).to_have_text("Paused: text is selected")
    page.evaluate("() => getSelection().removeAllRanges()")
    time_passes(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by")


@pytest.mark.thorough
def test_refresh_waits_while_it_is_paused(page: Page, daemon: ApiDaemon, protea: Protea) -> None:
    page.clock.install()
    page.goto("/")
    page.get_by_role("button", name="Pause").click()
    asked = counted(page)
    changes(daemon, protea, page)
    time_passes(page)
    assert asked == []
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Halted by")


@pytest.mark.thorough
def test_page_says_that_it_is_old_when_the_daemon_does_not_answer(browser: Browser, daemon: ApiDaemon) -> None:
    with tab(browser, daemon.port, expected=(503,)) as page:
        page.clock.install()
        page.goto("/")

        def refuse(route: Route) -> None:
            route.fulfill(status=503, body='{"detail": "too many requests at once"}', content_type="application/json")

        def a_second_later() -> str:
            page.clock.run_for(1000)
            return page.locator("#freshness").inner_text()

        def time_passes_until(shown: str) -> None:
            wait_until(lambda: a_second_later() == shown, shown)

        time_passes_until("Live")
        page.route("**/*part=live*", refuse)
        time_passes_until("Not fresh")
        expect(page.get_by_role("alert")).to_contain_text("The daemon does not answer")
        keep(page, "silent")
        page.unroute("**/*part=live*")
        time_passes_until("Live")
        expect(page.locator("#silent")).to_be_hidden()


def test_page_in_trouble_has_no_accessibility_flaws(
    browser: Browser, server: PrivatePostgreSQL, tmp_path: Path
) -> None:
    with api_daemon(server, tmp_path, "page_trouble", interval_seconds=1) as (daemon, protea):
        job = protea.stale(operation="load_goa")
        wait_until(lambda: protea.status(job) == "failed", "it is reaped")
        protea.connection.execute("UPDATE job SET status = 'succeeded', finished_at = clock_timestamp()")
        wait_until(lambda: "Late signs" in (daemon.get("/") or (0, ""))[1], "it is seen")
        with tab(browser, daemon.port) as page:
            page.goto("/")
            expect(page.get_by_role("heading", name="Late signs")).to_be_visible()
            assert flaws(page) == []
            keep(page, "late")
            with closed(server.url_of("postgres").replace("+psycopg", ""), "page_trouble"):
                expect(page.get_by_role("heading", level=1)).to_have_text("The database is away")
                assert flaws(page) == []
                keep(page, "away")
                expect(page.locator("section", has_text="Reaped lately").first).to_contain_text(job)
