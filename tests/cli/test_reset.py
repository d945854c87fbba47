"""`reaper reset`: everything is ended, but only when this very source is confirmed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reaper.cli import exit_codes
from reaper.errors import DatabaseUnavailable
from reaper.operations.reset import ResetPlan, ResetResult, reset
from tests.conftest import TEMPLATE
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.protea import MINUTE, Protea
from tests.support.terminals import typed
from tests.support.waiting import wait_until


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {})
    reaper.configure(f"[sources.main]\ndatabase_url = '{database}'\n")
    return reaper


def living_and_dead(protea: Protea) -> list[str]:
    dead, alive, young = protea.stale(), protea.job(), protea.job(age=MINUTE, operation="predict")
    protea.event(alive, age=1)
    return [dead, alive, young]


def count(protea: Protea, status: str) -> int:
    return list(protea.statuses().values()).count(status)


# --- nothing without the name -----------------------------------------------------------------------------------


def test_reset_without_a_terminal_needs_the_name_and_says_so_in_one_line(reaper: Reaper, protea: Protea) -> None:
    living_and_dead(protea)
    before = protea.dump()
    result = reaper("reset", "--source", "main")
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    passes = "use --yes to reset without a question, or --dry-run to look"
    assert result.stderr == f"reaper: standard input is not a terminal: {passes}\n"
    assert protea.dump() == before


@pytest.mark.parametrize("name", ["Main", "other", "", "main "])
def test_wrong_confirmation_is_refused_and_nothing_is_changed(reaper: Reaper, protea: Protea, name: str) -> None:
    living_and_dead(protea)
    before = protea.dump()
    result = reaper("reset", "--source", "main", "--confirm", name)
    assert result.exit_code == exit_codes.USAGE and "nothing was changed" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and protea.dump() == before


def test_source_must_be_named_even_when_there_is_only_one(reaper: Reaper) -> None:
    result = reaper("reset", "--confirm", "main")
    assert result.exit_code == exit_codes.USAGE and "--source" in result.stderr
    result = reaper("reset", "--source", "mian", "--confirm", "mian")
    assert result.exit_code == exit_codes.USAGE and "did you mean 'main'?" in result.stderr


def test_reset_at_a_terminal_asks_for_the_name(reaper: Reaper, protea: Protea) -> None:
    jobs = living_and_dead(protea)
    before = protea.dump()
    status, shown, errors = typed(reaper, "yes\n", "reset", "--source", "main")
    assert status == exit_codes.USAGE and "that is not the source's name: nothing was changed" in errors
    assert "Source main: 3 running job(s), the oldest since " in shown and all(job in shown for job in jobs)
    assert protea.dump() == before
    status, shown, errors = typed(reaper, "main\n", "reset", "--source", "main")
    assert (status, "Type main to end all of them" in errors) == (0, True)
    assert "Ended 3 job(s) in source main.\n" in shown and count(protea, "failed") == 3


# --- what it shows ----------------------------------------------------------------------------------------------


def test_dry_run_counts_kinds_names_the_first_twenty_and_changes_nothing(reaper: Reaper, protea: Protea) -> None:
    oldest = protea.stale(age=20 * 3600)
    for _ in range(24):
        protea.job(operation="predict")
    before = protea.dump()
    shown = reaper("reset", "--source", "main", "--dry-run")
    assert shown.exit_code == 0 and "Nothing was changed." in shown.stdout
    assert "predict    24" in shown.stdout and "... and 5 more." in shown.stdout
    document = reaper.json("reset", "--source", "main", "--dry-run")
    assert document["kinds"] == [{"kind": "predict", "jobs": 24}, {"kind": "embed", "jobs": 1}]
    assert document["running"] == 25 and len(document["first"]) == 20 and document["first"][0]["key"] == oldest
    assert document["oldest"] == document["first"][0]["started"] and document["ended"] == 0
    assert protea.dump() == before


# --- what it does -----------------------------------------------------------------------------------------------


def test_reset_ends_every_running_job_with_operator_and_reason_in_its_audit_event(
    reaper: Reaper, protea: Protea
) -> None:
    jobs, over = living_and_dead(protea), protea.job(status="succeeded")
    document = reaper.json("reset", "--source", "main", "--confirm", "main", "--reason", "the node is gone")
    assert (document["running"], document["ended"], document["locked"]) == (3, 3, [])
    assert protea.status(over) == "succeeded"
    for job in jobs:
        row = protea.row(job)
        assert (row["status"], row["error_code"]) == ("failed", "ManualTimeout")
        by = document["operator"]
        assert row["error_message"] == f"Manually marked FAILED by operator: the node is gone ({by})"
        [audit] = protea.audits(job)
        assert audit["fields"]["operator"] == document["operator"]
        assert audit["fields"]["message"] == row["error_message"] and audit["fields"]["sweep_id"]
    again = reaper.json("reset", "--source", "main", "--confirm", "main")
    assert (again["running"], again["ended"]) == (0, 0)


def test_locked_job_is_left_alone_and_named(reaper: Reaper, protea: Protea) -> None:
    held, other = protea.stale(), protea.stale()
    with protea.connect() as worker:
        worker.execute("SELECT FROM job WHERE id = %s FOR UPDATE", [held])
        result = reaper("reset", "--source", "main", "--confirm", "main")
    assert result.exit_code == 0 and f"Alive, its row is held: {held}" in result.stdout
    assert (protea.status(held), protea.status(other)) == ("running", "failed")


def test_unavailable_database_is_exit_status_75(reaper: Reaper) -> None:
    reaper.configure("[sources.main]\ndatabase_url = 'postgresql://someone:geheim@127.0.0.1:1/nothing'\n")
    assert reaper("reset", "--source", "main", "--confirm", "main").exit_code == exit_codes.AWAY


@pytest.mark.parametrize("as_json", [False, True])
def test_trouble_of_a_later_source_hides_nothing_of_what_the_earlier_ones_have_lost(
    reaper: Reaper, protea: Protea, databases: TemporaryDatabases, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    jobs = [protea.stale(), protea.job(age=MINUTE)]

    def fails_at_the_second(plan: ResetPlan, *others: Any) -> ResetResult:
        if plan.source.name == "second":
            raise DatabaseUnavailable("the server is shutting down")
        return reset(plan, *others)

    monkeypatch.setattr("reaper.cli.reset.reset", fails_at_the_second)
    with databases.temporary(TEMPLATE) as other:
        with psycopg.connect(other.replace("+psycopg", ""), autocommit=True) as connection:
            Protea(other, connection).stale()
        places = {"main": protea.url, "second": other}
        reaper.configure("".join(f"[sources.{name}]\ndatabase_url = '{url}'\n" for name, url in places.items()))
        result = reaper("reset", "--all-sources", "--yes", *(["--json"] if as_json else []))
    said = "source second: the server is shutting down"
    assert result.exit_code == exit_codes.AWAY and result.stderr.endswith(f"reaper: {said}\n")
    if as_json:
        document = json.loads(result.stdout)
        assert [(one["source"], one["ended"]) for one in document["sources"]] == [("main", 2), ("second", 0)]
        assert document["error"] == said
    else:
        assert "Ended 2 job(s) in source main." in result.stdout
    assert {protea.status(job) for job in jobs} == {"failed"}


def test_ctrl_c_ends_it_between_two_batches_with_nothing_half_done(reaper: Reaper, protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'embed', 'q', 'running', now() FROM generate_series(1, 20000)"
    )
    words = ("reset", "--source", "main", "--confirm", "main", "--json")
    with reaper.process(*words, REAPER_BATCH_SIZE="5") as process:
        wait_until(lambda: count(protea, "failed") > 0, "the first batch is committed")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    document: Any = json.loads(output)
    assert (process.returncode, document["stopped"]) == (exit_codes.INTERRUPTED, True), errors
    assert document["ended"] == count(protea, "failed") < 20000
    [(audits,)] = protea.connection.execute("SELECT count(*) FROM job_event WHERE event = 'job.timeout'").fetchall()
    assert audits == document["ended"]
