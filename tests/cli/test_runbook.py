"""`reaper runbook`: what to do at 3 a.m., without the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper.cli import exit_codes
from tests.support.commands import Reaper


@pytest.fixture
def reaper(tmp_path: Path) -> Reaper:
    return Reaper(tmp_path, {})


@pytest.mark.parametrize("words", [["ReaperBreakerOpen"], ["reaperbreakeropen"]])
def test_runbook_prints_the_entry_of_an_alert_and_no_other(reaper: Reaper, words: list[str]) -> None:
    result = reaper("runbook", *words)
    assert result.exit_code == 0 and result.stdout.startswith("## ReaperBreakerOpen\n")
    assert result.stdout.count("\n## ") == 0 and "### Mitigation" in result.stdout


def test_runbook_has_an_entry_for_each_symptom_with_or_without_quotes(reaper: Reaper) -> None:
    for words in (["it", "ended", "a", "living", "job"], ["It ended a living job"]):
        assert reaper("runbook", *words).stdout.startswith("## It ended a living job\n")
    assert reaper.json("runbook", "Nothing is ended at all")["entry"] == "Nothing is ended at all"


def test_runbook_without_a_name_lists_all_entries_symptoms_first(reaper: Reaper) -> None:
    names = reaper("runbook").stdout.splitlines()
    assert names[0] == "It ended a living job" and "ReaperDeaf" in names
    assert reaper.json("runbook")["entries"] == names


@pytest.mark.parametrize(
    ("wrong", "near"), [("ReaperBreakerOpne", "ReaperBreakerOpen"), ("reaper-deaf", "ReaperDeaf"), ("stuck job", None)]
)
def test_wrong_name_is_wrong_usage_and_leads_to_the_nearest(reaper: Reaper, wrong: str, near: str | None) -> None:
    result = reaper("runbook", wrong)
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert (f"did you mean '{near}'?" if near else "expected one of: ") in result.stderr
