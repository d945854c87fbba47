"""Metrics: names, types, labels, and the values of labels that are closed lists."""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.contract.conftest import DaemonRecording, Golden
from tests.contract.support import PROJECT

CLOSED = ("reason", "outcome", "part", "le")
"""Labels whose values are the reaper's own words. Those of others are the user's."""


def test_metrics_keep_names_types_and_labels(life: DaemonRecording, golden: Golden) -> None:
    golden("metrics.txt", [*_families(life.metrics), *_openmetrics(life.openmetrics)])


def _families(text: str) -> Iterator[str]:
    for family in plain(text):
        for sample in family.samples:
            labels = (f'{name}="{value}"' if name in CLOSED else name for name, value in sorted(sample.labels.items()))
            yield f"{sample.name}{{{', '.join(labels)}}}: {family.type}"


def _openmetrics(text: str) -> Iterator[str]:
    """The same families are there in the other form."""
    yield from (f"OpenMetrics {family.name}: {family.type}" for family in openmetrics(text))  # type: ignore[no-untyped-call]


def test_alerts_and_recorded_series_keep_their_names_and_severities(golden: Golden) -> None:
    files = sorted((PROJECT / "config" / "prometheus").glob("reaper.*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    golden("alerts.txt", [_rule(rule) for group in groups for rule in group["rules"]])


def _rule(rule: dict[str, object]) -> str:
    if "record" in rule:
        return f"series {rule['record']}"
    return f"alert {rule['alert']}: {json.dumps(rule.get('labels'), sort_keys=True)}"
