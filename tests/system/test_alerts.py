"""The alerts: right by Prometheus's own tools, each with a case and a runbook, and they reach a receiver."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics_page import families, names_of, series_in
from prometheus_client import generate_latest

from reaper.config import load
from reaper.observers.metrics import Metrics
from tests.support.commands import Reaper
from tests.support.daemons import PROJECT, Daemon, Samples, fetch
from tests.support.monitoring import (
    ALERTMANAGER,
    ALERTS,
    RECORDING,
    RULES,
    AlertReceiver,
    Prometheus,
    alertmanager,
    program,
    read,
    run_program,
)
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until

CASES = sorted((RULES / "tests").glob("*.yml"))
RUNBOOK = PROJECT / "docs" / "runbook.md"
PROMISED = {
    "ReaperAbsent",
    "ReaperSweepStale",
    "ReaperSweepErrors",
    "ReaperDatabaseDown",
    "ReaperBreakerOpen",
    "ReaperJobsReaped",
    "ReaperReapBurst",
    "ReaperStaleBacklog",
    "ReaperOldestRunningTooOld",
    "ReaperHaltedTooLong",
    "ReaperMultipleLeaders",
    "ReaperLateFinishes",
}
SYMPTOMS = ("It ended a living job", "A job is stuck and not ended", "Nothing is ended at all")
ELSEWHERE = ("systemctl status ", "systemctl restart ", "systemctl reload ", "journalctl ", "curl ", "export ")
"""How other commands of the runbook begin; what they do is not ours."""

alerts = {rule["alert"]: rule for group in read(ALERTS)["groups"] for rule in group["rules"]}
recorded = [rule for group in read(RECORDING)["groups"] for rule in group["rules"]]


# --- rules ------------------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_to_say() -> None:
    lint = (program("promtool"), "check")
    for words in (("rules", "--lint=all", "--lint-fatal", RECORDING, ALERTS), ("config", RULES / "prometheus.yml")):
        status, tool_output = run_program(*lint, *words)
        assert (status, "FAILED" in tool_output) == (0, False), tool_output


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(file: Path, tmp_path: Path, thorough: bool) -> None:
    """promtool evaluates every rule each minute. Without `--thorough` a case has the rules alone that it depends on."""
    files = [file] if thorough else with_few_rules(file, tmp_path)
    status, tool_output = run_program(program("promtool"), "test", "rules", *files)
    assert status == 0, tool_output


def with_few_rules(file: Path, folder: Path) -> list[Path]:
    """The cases of a file in new files, by the rules that they depend on: a seventh of the time."""
    whole = read(file)
    cases = defaultdict(list)
    for case in whole["tests"]:
        cases[rules_of(case)].append(case)
    assert sum(len(some) for some in cases.values()) == len(whole["tests"])
    written = []
    for number, (names, some) in enumerate(cases.items()):
        groups = [group for source in (RECORDING, ALERTS) for group in read(source)["groups"]]
        few = [
            {**group, "rules": kept}
            for group in groups
            if (kept := [rule for rule in group["rules"] if name_of(rule) in names])
        ]
        rules, written_cases = folder / f"rules-{number}.yml", folder / f"cases-{number}.yml"
        rules.write_text(yaml.safe_dump({"groups": few}))
        order = [group["name"] for group in few]
        written_cases.write_text(
            yaml.safe_dump({**whole, "rule_files": [str(rules)], "group_eval_order": order, "tests": some})
        )
        written.append(written_cases)
    return written


def name_of(rule: dict[str, str]) -> str:
    return rule.get("alert") or rule["record"]


def rules_of(case: dict[str, Any]) -> frozenset[str]:
    """The alerts that a case is about, and every recorded series that is named on the way to them."""
    texts = [test["expr"] for test in case.get("promql_expr_test", ())]
    names = {test["alertname"] for test in case.get("alert_rule_test", ())}
    texts += [json.dumps(alerts[name]) for name in names]
    while texts:
        text = texts.pop()
        for rule in recorded:
            if rule["record"] in text and rule["record"] not in names:
                names.add(rule["record"])
                texts.append(rule["expr"])
    return frozenset(names)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    expected = defaultdict(set)
    for file in CASES:
        for case in read(file)["tests"]:
            for test in case.get("alert_rule_test", ()):
                expected[test["alertname"]].add(bool(test["exp_alerts"]))
    assert expected == {name: {True, False} for name in alerts}


def test_promised_alerts_are_there() -> None:
    assert alerts.keys() >= PROMISED


def test_rules_read_only_what_the_daemon_says_and_what_they_have_recorded() -> None:
    there = {"up"} | {name for family in families() for name in names_of(family)}
    for rule in recorded:
        assert series_in(rule["expr"]) <= there, rule["record"]
        there.add(rule["record"])
    for name, rule in alerts.items():
        assert series_in(rule["expr"]) <= there, name


def test_queries_of_descriptions_read_recorded_series() -> None:
    names = {rule["record"] for rule in recorded}
    asked = [
        found for rule in alerts.values() for found in re.findall(r"([\w:]+)\{%s\}", rule["annotations"]["description"])
    ]
    assert len(asked) == 2
    assert set(asked) <= names


def test_every_alert_says_what_it_means_to_whom_and_where_to_read_on() -> None:
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}, name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert len(rule["annotations"]["summary"]) < 100, name


def test_runbook_urls_get_their_base_by_the_command_in_the_rules(tmp_path: Path) -> None:
    [command] = re.findall(r"^#   (sed .*)$", ALERTS.read_text(), flags=re.MULTILINE)
    shutil.copy(ALERTS, tmp_path)
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    [group] = read(tmp_path / ALERTS.name)["groups"]
    urls = [rule["annotations"]["runbook_url"] for rule in group["rules"]]
    assert len(urls) == len(alerts)
    assert all(re.fullmatch(r"https://git\.example\.org/\S+/docs/runbook\.md#reaper[a-z]+", url) for url in urls)


def test_longest_timeout_is_that_of_the_kind_with_the_longest(tmp_path: Path) -> None:
    file = tmp_path / "reaper.toml"
    own = '[profiles.own]\nextends = "protea"\n[profiles.own.limits.timeout]\ncolumn = "progress_total"\nunit = "s"\n'
    file.write_text(
        'timeout_seconds = "1h"\n[kinds.embed]\ntimeout_seconds = "2h"\n'
        '[sources.main]\ndatabase_url = "postgresql://a@h/main"\n'
        '[sources.slow]\ndatabase_url = "postgresql://a@h/slow"\n[sources.slow.kinds.embed]\ntimeout_seconds = "5h"\n'
        f'[sources.rows]\ndatabase_url = "postgresql://a@h/rows"\nprofile = "own"\n{own}'
    )
    settings = load({"config": str(file)}, {})
    timeouts = {name: source.longest_timeout for name, source in settings.sources.items()}
    assert timeouts == {"main": 7200, "slow": 18000, "rows": float("inf")}
    metrics = Metrics()
    metrics.set_sources([*timeouts, "unsaid"], 60, timeouts)
    found = Samples(generate_latest(metrics.registry).decode())
    shown = {name: found.value("reaper_longest_timeout_seconds", source=name) for name in (*timeouts, "unsaid")}
    assert shown == {**timeouts, "unsaid": float("inf")}
    metrics.set_sources(["main"], 60, {"main": 60})
    reloaded = Samples(generate_latest(metrics.registry).decode())
    assert reloaded.value("reaper_longest_timeout_seconds", source="main") == 60
    assert reloaded.value("reaper_longest_timeout_seconds", source="slow") is None


# --- Alertmanager -----------------------------------------------------------------------------------------------


def test_amtool_finds_nothing_to_say() -> None:
    status, tool_output = run_program(program("amtool"), "check-config", ALERTMANAGER)
    assert (status, "FAILED" in tool_output) == (0, False), tool_output


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tickets"), ("info", "chat")])
def test_alert_goes_where_its_severity_says(severity: str, receiver: str) -> None:
    options = (f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}")
    status, tool_output = run_program(
        program("amtool"), "config", "routes", "test", *options, f"severity={severity}", "source=main"
    )
    assert status == 0, tool_output


def test_inhibit_rules_name_alerts_that_exist() -> None:
    for rule in read(ALERTMANAGER)["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            [names] = re.findall(r'^alertname=~?"([\w|]+)"$', matcher)
            assert set(names.split("|")) <= alerts.keys()


# --- runbook ----------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def typed(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line))


def test_every_alert_and_three_symptoms_have_their_place_in_the_runbook_and_nothing_else_has() -> None:
    assert sections().keys() == alerts.keys() | set(SYMPTOMS)
    for name, text in sections().items():
        assert re.findall(r"^### (.*)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"], name
        assert all(part.strip() for part in re.split(r"^### .*$", text, flags=re.MULTILINE)[1:]), name


def test_every_anchor_that_the_runbook_names_is_one_of_its_own() -> None:
    anchors = {name.lower().replace(" ", "-") for name in (*alerts, *SYMPTOMS)}
    assert set(re.findall(r"\(#([\w-]+)\)", RUNBOOK.read_text())) <= anchors


@pytest.mark.parametrize("document", ["CHANGELOG.md", "docs/how-to/alerts.md"])
def test_documents_give_the_number_of_alerts_that_there_are(document: str) -> None:
    said = re.findall(r"\b(\d+) alerts\b", (PROJECT / document).read_text())
    assert said and set(map(int, said)) == {len(alerts)}


def test_no_other_document_gives_another_number_of_alerts() -> None:
    documents = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "reaper").rglob("*.toml")]
    documents += [path for path in (PROJECT / "config").rglob("*") if path.is_file()]
    said = {int(n) for path in documents for n in re.findall(r"\b(\d+) (?:alerts|alert rules)\b", path.read_text())}
    assert said <= {len(alerts)}


def test_runbook_sorts_the_alerts_as_their_labels_do() -> None:
    tool_output: dict[str, str] = {}
    for severity, names in re.findall(
        r"^\| (page|ticket|info) \|.*\| ([\w, ]+) \|$", RUNBOOK.read_text(), re.MULTILINE
    ):
        tool_output |= dict.fromkeys(names.split(", "), severity)
    assert tool_output == {name: rule["labels"]["severity"] for name, rule in alerts.items()}


def test_every_other_command_of_the_runbook_is_one_of_those_that_every_host_has() -> None:
    for line in typed(RUNBOOK.read_text()):
        assert line.startswith(("reaper ", *ELSEWHERE)), line
        subprocess.run(["bash", "-n", "-c", line], check=True)


ALONE = [line for line in typed(RUNBOOK.read_text()) if re.match(r"reaper (?!state|halt|restart)", line)]
STEERING = [line for line in typed(RUNBOOK.read_text()) if re.match(r"reaper (state|halt|restart)", line)]


def words_of(line: str, job: str) -> list[str]:
    values = {"$SOURCE": "default", "$JOB": job, "$NUMBER": "1"}
    return [values.get(word, word) for word in shlex.split(line)[1:]]


@pytest.mark.parametrize("line", ALONE)
def test_runbook_command_does_what_it_says(protea: Protea, tmp_path: Path, line: str) -> None:
    job = protea.stale()
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url})
    changes = line.startswith(("reaper fail", "reaper sweep")) and "--dry-run" not in line
    answer = ["--yes"] if changes else []  # to the question that it asks on a terminal
    result = reaper(*words_of(line, job), *answer)
    # The exit status, too, says that the fence is missing.
    assert result.exit_code == (1 if line.startswith("reaper fence status") else 0), result.output
    assert result.stdout.strip()
    assert protea.status(job) == ("failed" if changes else "running")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text("tester:a-token-for-tests-0123456789\n")
    file.chmod(0o600)
    return file


def test_daemon_is_steered_and_asked_as_the_runbook_says(protea: Protea, tmp_path: Path, token: Path) -> None:
    assert {line.split()[1] for line in STEERING} == {"state", "halt", "restart"}
    with Daemon(tmp_path, database_url=protea.url, http_token_file=token) as daemon:
        daemon.comes_up().sweeps_on(1)
        reaper = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": str(token)})
        assert reaper("state").exit_code == 0
        for verb, halted in (("halt", 1), ("restart", 0)):
            for line in STEERING:
                if line.split()[1] == verb:
                    result = reaper(*words_of(line, ""))
                    assert result.exit_code == 0, result.output
            assert daemon.metrics.value("reaper_halted") == halted
        for path in re.findall(r"curl -sS http://127\.0\.0\.1:9469(\S+)", RUNBOOK.read_text()):
            assert fetch(daemon.port, path)[0] == 200


def test_log_filter_of_the_runbook_leaves_out_what_is_in_order(tmp_path: Path) -> None:
    filters = {line.partition(" | ")[2] for line in typed(RUNBOOK.read_text()) if " | " in line}
    assert len(filters) == 1
    away = "postgresql://nobody:x@127.0.0.1:1/none"
    with Daemon(tmp_path, database_url=away) as daemon:
        wait_until(lambda: daemon.said("Reaper cycle failed"), "a failed sweep")
        daemon.stop()
    with daemon.stderr.open() as log:
        left = subprocess.run(["bash", "-c", filters.pop()], stdin=log, capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"] for line in left.stdout.splitlines()]
    assert "Reaper cycle failed" in events
    assert "Reaper starts." not in events


# --- end to end -------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with AlertReceiver.listening() as listening:
        yield listening


def test_stuck_job_is_ended_and_its_alert_reaches_the_receiver(
    protea: Protea, tmp_path: Path, receiver: AlertReceiver, token: Path
) -> None:
    with (
        Daemon(tmp_path, database_url=protea.url, http_token_file=token) as daemon,
        alertmanager(tmp_path / "alertmanager", receiver.port) as port,
        Prometheus.watching(tmp_path / "prometheus", {"reaper": daemon.port}, port) as prometheus,
    ):
        wait_until(
            lambda: prometheus.ask("source:reaper_last_success_timestamp_seconds:max > 0"), "a sweep was seen", 60
        )
        assert receiver.received == []
        assert daemon.value("reaper_longest_timeout_seconds") == 6 * HOUR

        job = protea.stale(operation="embed")
        wait_until(lambda: protea.status(job) == "failed", "the job's end")
        [alert, *_] = wait_until(lambda: receiver.alerts("/info", "ReaperJobsReaped"), "the alert", 60)
        assert alert["status"] == "firing"
        labels = {"alertname": "ReaperJobsReaped", "job": "reaper", "source": "default", "severity": "info"}
        assert alert["labels"] == labels
        assert "1 stuck job(s) of default" in alert["annotations"]["summary"]
        assert "embed 1 (JobTimeout)" in alert["annotations"]["description"]
        assert {name: health for name, health in prometheus.rules().items() if health[0] != "ok"} == {}
        assert prometheus.rules().keys() == alerts.keys() | {rule["record"] for rule in recorded}
        assert not receiver.alerts("/page", "ReaperReapBurst")


def test_reap_before_the_first_scrape_fires_its_alert(protea: Protea, tmp_path: Path, receiver: AlertReceiver) -> None:
    for _ in range(6):
        protea.stale(operation="predict")
    with Daemon(tmp_path, database_url=protea.url, interval_seconds=60) as daemon:
        wait_until(lambda: daemon.sweeps(), "the first sweep")
        with (
            alertmanager(tmp_path / "alertmanager", receiver.port) as port,
            Prometheus.watching(tmp_path / "prometheus", {"reaper": daemon.port}, port),
        ):
            [alert, *_] = wait_until(lambda: receiver.alerts("/page", "ReaperReapBurst"), "the page", 60)
            assert "6 jobs of default" in alert["annotations"]["summary"]
