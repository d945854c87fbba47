"""The dashboard: whole, explained, and made of what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from metrics_page import families, names_of, rules, series_in

from tests.support.daemons import PROJECT, Daemon
from tests.support.monitoring import Prometheus
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until

DASHBOARD = json.loads((PROJECT / "config" / "grafana" / "reaper.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ANNOTATIONS = DASHBOARD["annotations"]["list"]
EMPTY_WHILE_ALL_IS_WELL = {"source_kind:reaper_late_signs:increase1h", "source_kind:reaper_jobs_reaped:increase15m"}
TARGET_LABELS = {"job", "instance"}


def expressions() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in ANNOTATIONS)


def filled(expression: str) -> str:
    """As Grafana asks it, with everything chosen."""
    for name, value in {"$__rate_interval": "1m", "$job": ".*", "$source": ".*", "$instance": ".*"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in PANELS:
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_rows_are_overview_sweeps_jobs_and_trouble_and_nothing_overlaps() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Sweeps", "Jobs", "Trouble"]
    covered: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        assert max(x for x, _ in cells) < 24
        covered |= cells
    heights = sorted({y for _, y in covered})
    assert all(after - before == 1 for before, after in pairwise(heights))


def test_everything_is_asked_of_the_chosen_prometheus() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asked: list[dict[str, Any]] = [*PANELS, *ANNOTATIONS, *(target for panel in PANELS for target in panel["targets"])]
    asked += [variable for name, variable in VARIABLES.items() if name != "datasource"]
    assert all(each["datasource"] == chosen for each in asked)
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert list(VARIABLES) == ["datasource", "job", "source", "instance"]


def test_rates_are_over_grafanas_own_interval() -> None:
    for expression in expressions():
        for window in re.findall(r"\[([^\]]*)\]", expression):
            assert window == "$__rate_interval", expression
        for function in re.findall(r"\b(?:rate|increase)\([^)]*\)", expression):
            assert "[$__rate_interval]" in function, expression


def test_every_series_and_label_is_one_that_there_is() -> None:
    every = families()
    labels = {name: {key for sample in f.samples for key in sample.labels} for f in every for name in names_of(f)}
    for rule in rules("reaper.recording.yml"):
        made_of = (labels[name] for name in series_in(rule["expr"]) if name in labels)
        labels[rule["record"]] = set().union(*made_of)
    for expression in map(filled, expressions()):
        assert series_in(expression) <= labels.keys(), expression
        for name, selector in re.findall(r"([a-z_:][\w:]*)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=~?\"", selector)) <= labels[name] | TARGET_LABELS, expression
        known = set().union(*(labels[name] for name in series_in(expression))) | TARGET_LABELS
        for grouping in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression):
            assert set(grouping.split(", ")) <= known, expression
    for panel in PANELS:
        for target in panel["targets"]:
            known = set().union(*(labels[name] for name in series_in(filled(target["expr"])))) | TARGET_LABELS
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, panel["title"]


def test_variables_ask_for_labels_of_series_that_exist() -> None:
    names = {name for family in families() for name in names_of(family)}
    for name, variable in VARIABLES.items():
        if name != "datasource":
            [(series, label)] = re.findall(
                r"^label_values\((\w+)(?:\{job=~\"\$job\"\})?, (\w+)\)$", variable["definition"]
            )
            assert series in names
            assert label == name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grafana")


def test_prometheus_takes_every_question_and_a_working_daemon_answers_it(protea: Protea, folder: Path) -> None:
    protea.event(protea.job(age=7 * HOUR))
    protea.stale(operation="embed")
    with (
        Daemon(folder, database_url=protea.url) as daemon,
        Prometheus.watching(folder / "prometheus", {"reaper": daemon.comes_up().port}) as prometheus,
    ):
        last = "source:reaper_jobs_reaped:increase15m > 0"
        wait_until(lambda: prometheus.ask(last) and prometheus.ask("rate(reaper_sweeps_total[1m]) > 0"), "a reap", 60)
        for expression in expressions():
            answer = prometheus.ask(filled(expression))
            empty = series_in(filled(expression)) & {*EMPTY_WHILE_ALL_IS_WELL} or expression in {
                annotation["expr"] for annotation in ANNOTATIONS
            }
            assert answer or empty, expression
