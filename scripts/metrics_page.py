"""Writes docs/reference/metrics.md from the metrics of the daemon.

metrics_page.py           write the page
metrics_page.py --check   fail when the page is not current
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml
from pages import PROJECT, REFERENCE, write_or_check
from prometheus_client import Metric

from reaper.memory.reap_counts import MAX_KINDS
from reaper.model import Outcome, Reason
from reaper.observers.metrics import OPTIONAL_STEPS, Metrics

PAGE = REFERENCE / "metrics.md"
RULES = PROJECT / "config" / "prometheus"

_HEAD = """\
# Metrics

<!-- Made by scripts/metrics_page.py from the metrics themselves: change those, and run the script again. -->

What the daemon serves on `/metrics`. Every name and label is there from the start of the daemon. Kinds of jobs are the
exception: a kind appears with its first job. Points in time are seconds since 1970, by the daemon's clock; the start
of a job is by the database's clock. Counters begin at 0 with the process; the sample that ends in `_created` says
when. The last column names the alerts that read a metric. What to do about an alert is in the
[runbook](../runbook.md).
"""
_LABELS = f"""\
## Labels

| label | values |
|---|---|
| `source` | a source's name in the configuration |
| `kind` | what a job does; `other` beyond the first {MAX_KINDS} kinds of a source, `none` for jobs without a kind |
| `reason` | {", ".join(f"`{reason.value}`" for reason in Reason)} |
| `outcome` | {", ".join(f"`{outcome.value}`" for outcome in Outcome)} |
| `part` | {", ".join(f"`{part}`" for part in OPTIONAL_STEPS)} |
| `version`, `python` | of this process |
| `le` | upper bounds of a histogram's buckets |
"""
_RECORDED = """\
## Recorded series

Prometheus computes these with `config/prometheus/reaper.recording.yml`, which explains each. They combine the replicas
of a reaper into one series. The first part of a name says which labels are left.

| series | computed from | alerts |
|---|---|---|
"""
_TABLE = "| metric | type | labels | meaning | alerts |\n|---|---|---|---|---|\n"

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTED = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "Inf", "NaN", "inf", "nan"})


def series_in(expression: str) -> set[str]:
    """The names of all series that a PromQL expression reads."""
    bare = _SELECTED.sub(" ", _GROUPING.sub(" ", _STRING.sub(" ", expression)))
    names = (found.group() for found in _NAME.finditer(re.sub(r"\b\d[\w.]*", " ", bare)))
    return {name for name in names if name not in _WORDS}


def rules(file: str) -> list[dict[str, Any]]:
    """The rules of all groups of one file."""
    groups = yaml.safe_load((RULES / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def families() -> list[Metric]:
    """The metric families of a daemon with one source, in their order on /metrics."""
    metrics = Metrics()
    metrics.set_sources(["main"], 60)
    return list(metrics.registry.collect())


def names_of(family: Metric) -> set[str]:
    """The names of all series of a metric: a histogram has several, and a counter also has `_created`."""
    return {family.name, *(sample.name for sample in family.samples)}


def page() -> str:
    """The whole document."""
    all_families, recorded = (
        families(),
        {rule["record"]: series_in(rule["expr"]) for rule in rules("reaper.recording.yml")},
    )
    alerts_of = _alerts_by_series(recorded)
    own = [family for family in all_families if family.name.startswith("reaper_")]
    process = [family for family in all_families if not family.name.startswith("reaper_")]
    parts = [
        _HEAD,
        _LABELS,
        "## The reaper\n\n" + _TABLE + _lines(_row(family, alerts_of) for family in own),
        "## The process\n\nOn Linux only.\n\n" + _TABLE + _lines(_row(family, alerts_of) for family in process),
        _RECORDED + _lines(_recorded(name, inputs, alerts_of) for name, inputs in recorded.items()),
    ]
    return "\n".join(parts)


def _alerts_by_series(recorded: Mapping[str, set[str]]) -> Mapping[str, set[str]]:
    """For each series, the alerts that read it, directly or through recorded series."""
    alerts_of = defaultdict(set)
    for rule in rules("reaper.alerts.yml"):
        for name in _with_inputs(series_in(rule["expr"]), recorded):
            alerts_of[name].add(str(rule["alert"]))
    return alerts_of


def _with_inputs(names: Iterable[str], recorded: Mapping[str, set[str]]) -> Iterator[str]:
    for name in names:
        yield name
        yield from _with_inputs(recorded.get(name, ()), recorded)


def _row(family: Metric, alerts_of: Mapping[str, set[str]]) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = {label for sample in family.samples for label in sample.labels}
    alerts: set[str] = set().union(*(alerts_of.get(series, set()) for series in names_of(family)))
    cells = (f"`{name}`", family.type, _listed(f"`{label}`" for label in labels), family.documentation, _links(alerts))
    return f"| {' | '.join(cells)} |"


def _recorded(name: str, inputs: set[str], alerts_of: Mapping[str, set[str]]) -> str:
    return f"| `{name}` | {_listed(f'`{series}`' for series in inputs)} | {_links(alerts_of.get(name, set()))} |"


def _links(alerts: Iterable[str]) -> str:
    return _listed(f"[{alert}](../runbook.md#{alert.lower()})" for alert in alerts)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "metrics_page.py"))
