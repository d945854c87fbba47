"""docs/metrics.md says what the daemon says."""

from __future__ import annotations

import re
from pathlib import Path

import metrics_page
import pytest
from metrics_page import PAGE, main, page, rules, series_in
from prometheus_client import generate_latest

from reaper.observers.metrics import Metrics
from tests.support.daemons import Samples


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run scripts/metrics_page.py"


def test_every_series_that_the_daemon_has_stands_on_it_with_its_labels() -> None:
    metrics = Metrics()
    metrics.set_sources(["main"], 60)
    found = Samples(generate_latest(metrics.registry).decode())
    told = dict(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|([^|]*)\|", page(), re.MULTILINE))
    for family in found.families.values():
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        assert set(re.findall(r"`(\w+)`", told.pop(name))) == labels, name
    assert told == {}


def test_every_alert_stands_beside_a_metric() -> None:
    linked = set(re.findall(r"\[(\w+)\]\(runbook\.md#(\w+)\)", page()))
    ours = {rule["alert"] for rule in rules("reaper.alerts.yml") if series_in(rule["expr"]) != {"up"}}
    assert linked == {(alert, alert.lower()) for alert in ours}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum without (kind, reason) (a_total{kind="b_total", x=~"y"}) > 3e5', {"a_total"}),
        (
            "rate(a_total[5m]) and ignoring (x) group_left () b offset 5m or time() - c > bool 0.5",
            {"a_total", "b", "c"},
        ),
        ("source:a:max == +Inf unless on () absent(b)", {"source:a:max", "b"}),
        ("clamp_min(3 * job:a:max, 180)", {"job:a:max"}),
    ],
)
def test_the_series_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert series_in(expression) == names


def test_a_page_that_is_not_current_is_told_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "metrics.md"
    stale.write_text(page().replace("reaper_leader", "reaper_boss"))
    monkeypatch.setattr(metrics_page, "PAGE", stale)
    monkeypatch.setattr(metrics_page, "PROJECT", tmp_path)
    monkeypatch.setattr("sys.argv", ["metrics_page.py", "--check"])
    assert main() == 1
    assert "run scripts/metrics_page.py" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["metrics_page.py"])
    assert main() == 0
    assert stale.read_text() == page()
    monkeypatch.setattr("sys.argv", ["metrics_page.py", "--check"])
    assert main() == 0
