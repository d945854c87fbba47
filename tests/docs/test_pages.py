"""The scripts that write the reference notice a page that is not current, and a key that no text explains."""

from __future__ import annotations

from pathlib import Path

import profile_page
import pytest
import settings_page
from pages import write_or_check


def test_page_that_is_not_current_is_reported_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "metrics.md"
    page.write_text("old")
    monkeypatch.setattr("sys.argv", ["metrics_page.py", "--check"])
    assert write_or_check(page, "new", "metrics_page.py") == 1
    assert "run scripts/metrics_page.py" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["metrics_page.py"])
    assert write_or_check(page, "new", "metrics_page.py") == 0
    assert page.read_text() == "new"
    monkeypatch.setattr("sys.argv", ["metrics_page.py", "--check"])
    assert write_or_check(page, "new", "metrics_page.py") == 0


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("#interval_seconds = ", "# nothing ", "does not explain interval_seconds"),
        ("#interval_seconds = ", "#interval = ", "explains interval, which is not a setting"),
        ('#interval_seconds = "60s"', '#interval_seconds = "61s"', 'says interval_seconds = "61s", not 60'),
    ],
)
def test_configuration_file_that_differs_from_the_settings_makes_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, problem: str
) -> None:
    file = tmp_path / "reaper.toml"
    text = settings_page.FILE.read_text(encoding="utf-8")
    assert line in text
    file.write_text(text.replace(line, instead), encoding="utf-8")
    monkeypatch.setattr(settings_page, "FILE", file)
    with pytest.raises(ValueError, match=problem):
        settings_page.page()


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("\nclaim = ", "\n# claim = ", "does not explain jobs.claim"),
        ("\nclaim = ", '\nclaims = ["text", "text"]\nclaim = ', "explains jobs.claims, which is not a key"),
        ("[shipped.vuls]", "[shipped.vulsa]", "shipped profiles differ"),
    ],
)
def test_texts_that_differ_from_the_vocabulary_make_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, problem: str
) -> None:
    file = tmp_path / "profile_texts.toml"
    text = profile_page.TEXTS.read_text(encoding="utf-8")
    # The last one is the key; an example may have the same line before it.
    before, found, after = text.rpartition(line)
    assert found
    file.write_text(before + instead + after, encoding="utf-8")
    monkeypatch.setattr(profile_page, "TEXTS", file)
    with pytest.raises(ValueError, match=problem):
        profile_page.page()


def test_limits_of_settings_are_those_that_settings_name_when_they_refuse() -> None:
    page = settings_page.page()
    assert "| a whole number from 1 to 100000 |" in page
    assert "| a duration from 1s to 7d |" in page
    assert "| `auto`, `console`, `json` |" in page
