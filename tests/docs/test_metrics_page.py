"""docs/reference/metrics.md says what the daemon says."""

from __future__ import annotations

import re

import pytest
from metrics_page import page, rules, series_in
from prometheus_client import generate_latest

from reaper.observers.metrics import Metrics
from tests.support.daemons import Samples


def test_every_series_that_the_daemon_has_stands_on_it_with_its_labels() -> None:
    metrics = Metrics()
    metrics.set_sources(["main"], 60)
    found = Samples(generate_latest(metrics.registry).decode())
    listed = dict(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|([^|]*)\|", page(), re.MULTILINE))
    for family in found.families.values():
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        assert set(re.findall(r"`(\w+)`", listed.pop(name))) == labels, name
    assert listed == {}


def test_every_alert_stands_beside_a_metric() -> None:
    linked = set(re.findall(r"\[(\w+)\]\(\.\./runbook\.md#(\w+)\)", page()))
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
def test_series_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert series_in(expression) == names
