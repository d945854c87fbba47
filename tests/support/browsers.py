"""Debian's Chromium, and what of a page only a browser can tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.api import TOKEN

CHROMIUM = Path("/usr/bin/chromium")
_FLAWS = Path(__file__).with_name("flaws.js")
REFUSED = "Failed to load resource: the server responded with a status of "
"""Chromium's own line for whatever is answered with an error."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where it is not installed; fails it in CI."""
    if not CHROMIUM.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, port: int, *, expected: tuple[int, ...] = (), **options: Any) -> Iterator[Page]:
    """A new tab that must not complain: of nothing but answers with an `expected` status."""
    complaints: list[str] = []
    context = browser.new_context(base_url=f"http://127.0.0.1:{port}", **{"viewport": {"width": 1280, "height": 900}}
                                  | options)  # fmt: skip
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    allowed = tuple(f"{REFUSED}{status}" for status in expected)
    assert not [said for said in complaints if not (allowed and said.startswith(allowed))], complaints


def give_token(page: Page, token: str = TOKEN) -> None:
    """Type the token into the dialog that asks for it."""
    page.get_by_label("Token").and_(page.locator("input")).fill(token)
    page.get_by_role("button", name="Go on").click()


def flaws(page: Page) -> list[str]:
    """What keeps people from using it who cannot see it well, or not at all."""
    found: list[str] = page.evaluate(_FLAWS.read_text())
    return found
