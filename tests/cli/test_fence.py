"""`reaper fence`: the SQL first, a question, and nothing else in the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from reaper.cli import exit_codes
from tests.support.commands import AWAY, Reaper
from tests.support.fences import MARIADB_TABLES, catalog_rows
from tests.support.mariadb import MariaDB
from tests.support.protea import Protea
from tests.support.terminals import interrupted, typed


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protea: Protea) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {})
    reaper.configure(f"[sources.main]\ndatabase_url = '{protea.url}'\n")
    return reaper


def status(reaper: Reaper, *words: str, code: int = 0) -> list[str]:
    return [each["state"] for each in reaper.json("fence", "status", *words, code=code)["sources"]]


# --- nothing unasked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["install", "remove"])
def test_fence_without_a_terminal_refuses_in_one_line(reaper: Reaper, protea: Protea, wish: str) -> None:
    before = catalog_rows(protea)
    result = reaper("fence", wish)
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert result.stderr == (
        f"reaper: standard input is not a terminal: use --force to {wish} without a question, or --dry-run to look\n"
    )
    assert catalog_rows(protea) == before


def test_dry_run_prints_sql_that_can_be_pasted_and_changes_nothing(reaper: Reaper, protea: Protea) -> None:
    before = catalog_rows(protea)
    result = reaper("fence", "install", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith('-- Source main: the fence on "public"."job" is absent.\nBEGIN;\n')
    assert result.stdout.endswith("\nCOMMIT;\n")
    assert catalog_rows(protea) == before
    protea.connection.execute(result.stdout.encode())
    assert status(reaper) == ["installed"]


def test_fence_at_a_terminal_shows_the_sql_and_asks(reaper: Reaper, protea: Protea) -> None:
    before = catalog_rows(protea)
    code, shown, errors = typed(reaper, "n\n", "fence", "install")
    assert (code, catalog_rows(protea) == before) == (0, True)
    assert "CREATE OR REPLACE TRIGGER" in shown and "The fence is" not in shown
    assert 'Install the fence on "public"."job"? [y/N]: ' in errors
    code, output = interrupted(reaper, "[y/N]: ", "fence", "install")
    assert (code, catalog_rows(protea) == before) == (exit_codes.INTERRUPTED, True)
    assert "interrupted: nothing was changed" in output
    code, shown, errors = typed(reaper, "y\n", "fence", "install")
    assert (code, shown.splitlines()[-1]) == (0, "The fence is installed.")
    code, shown, errors = typed(reaper, "y\n", "fence", "remove", "--json")
    assert (code, catalog_rows(protea) == before) == (0, True)
    assert "DROP FUNCTION" in errors and '"after": "absent"' in shown


# --- what it does --------------------------------------------------------------------------------------------------


def test_fence_is_installed_and_removed_once(reaper: Reaper) -> None:
    assert status(reaper, code=1) == ["absent"]
    first = reaper.json("fence", "install", "--force")
    assert (first["command"], first["source"], first["before"], first["after"]) == (
        "fence install", "main", "absent", "installed",
    )  # fmt: skip
    assert first["table"] == '"public"."job"' and len(first["statements"]) == 5
    again = reaper.json("fence", "install", "--force")
    assert (again["before"], again["after"], again["statements"]) == ("installed", "installed", [])
    assert reaper("fence", "install").exit_code == exit_codes.USAGE
    assert status(reaper) == ["installed"]
    gone = reaper.json("fence", "remove", "--force")
    assert (gone["before"], gone["after"]) == ("installed", "absent")
    nothing = reaper("fence", "remove", "--force")
    assert (nothing.exit_code, nothing.stdout) == (0, '-- Source main: the fence on "public"."job" is absent.\n')


def test_fence_is_outdated_for_another_profile_and_status_says_what_to_do(reaper: Reaper, protea: Protea) -> None:
    reaper("fence", "install", "--force")
    reaper.configure(
        f"[sources.main]\ndatabase_url = '{protea.url}'\n[profiles.protea]\nextends = 'protea'\nfence.again = []\n"
    )
    assert status(reaper, code=1) == ["outdated"]
    result = reaper("fence", "status")
    assert result.exit_code == exit_codes.FAILED
    assert result.stdout.splitlines()[1].split(None, 3) == [
        "main", "outdated", '"public"."job"',
        "it differs from what this profile needs: `reaper fence install` replaces it",
    ]  # fmt: skip
    reaper("fence", "install", "--force")
    assert status(reaper) == ["installed"]


def test_sweep_at_another_action_is_noted(reaper: Reaper, protea: Protea) -> None:
    reaper.configure(
        f"[sources.main]\ndatabase_url = '{protea.url}'\naction = 'cancel'\n[profiles.protea]\nextends = 'protea'\n"
        "actions.cancel.set.status = 'cancelled'\n"
    )
    document = reaper.json("fence", "install", "--dry-run")
    assert document["notes"] == [
        "this source ends stale jobs by the action 'cancel'; a fence protects only jobs ended by 'fail'"
    ]
    assert f"-- {document['notes'][0]}." in reaper("fence", "install", "--dry-run").stdout


# --- several sources, and trouble ----------------------------------------------------------------------------------


def test_status_tells_of_every_source_and_one_that_cannot_be_fenced_counts_when_it_is_named(
    reaper: Reaper, protea: Protea
) -> None:
    reaper.configure(
        f"[sources.main]\ndatabase_url = '{protea.url}'\n"
        f"[sources.log]\ndatabase_url = '{protea.url}'\nprofile = 'noetl'\n"
    )
    reaper("fence", "install", "--source", "main", "--force")
    assert status(reaper) == ["installed", None]
    assert status(reaper, "--source", "log", code=1) == [None]
    result = reaper("fence", "status")
    assert "log     impossible  noetl.event" in result.stdout and "its jobs exist only as a log" in result.stdout
    result = reaper("fence", "install", "--source", "log", "--force")
    assert (result.exit_code, result.stderr) == (
        exit_codes.USAGE,
        "reaper: source log: profile 'noetl' cannot be fenced: "
        "its jobs exist only as a log, so there is no row to keep\n",
    )
    result = reaper("fence", "install", "--force")
    assert result.exit_code == exit_codes.USAGE and "Choose one with --source" in result.stderr


def test_missing_privilege_is_one_line_and_exit_status_1(reaper: Reaper, protea: Protea) -> None:
    name = f"poor_{make_url(protea.url).database}"
    protea.connection.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON job TO {name}".encode())
    try:
        url = make_url(protea.url).set(username=name).render_as_string(hide_password=False)
        reaper.configure(f"[sources.main]\ndatabase_url = '{url}'\n")
        result = reaper("fence", "install", "--force")
        assert result.exit_code == exit_codes.FAILED and len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith(
            f"reaper: source main: the role '{name}' may not do that; it needs: GRANT CREATE"
        )
        shown = reaper("fence", "install", "--dry-run")
        assert shown.exit_code == 0 and f"-- The role '{name}' lacks: GRANT CREATE ON SCHEMA" in shown.stdout
    finally:
        protea.connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_unavailable_database_is_exit_status_75(reaper: Reaper) -> None:
    reaper.configure(f"[sources.main]\ndatabase_url = '{AWAY}'\n")
    for words in (["install", "--force"], ["remove", "--dry-run"], ["status"]):
        assert reaper("fence", *words).exit_code == exit_codes.AWAY


def test_unknown_subcommand_is_answered_with_the_nearest_name(reaper: Reaper) -> None:
    result = reaper("fence", "instal")
    assert (
        result.exit_code == exit_codes.USAGE
        and "There is no command 'instal'; did you mean 'install'?" in result.stderr
    )
    result = reaper("fence", "status", "--source", "mian")
    assert result.exit_code == exit_codes.USAGE and "did you mean 'main'?" in result.stderr


def test_check_knows_its_own_fence_from_triggers_of_others(reaper: Reaper, protea: Protea) -> None:
    reaper("fence", "install", "--force")
    assert "triggers fire" not in reaper("check").stdout


def test_fence_works_on_mariadb_too(reaper: Reaper, mariadb: MariaDB) -> None:
    url = mariadb.create_database("cli_fence", MARIADB_TABLES)
    reaper.configure(f"[sources.main]\ndatabase_url = '{url}'\n")
    shown = reaper("fence", "install", "--dry-run").stdout
    assert "\nDELIMITER //\n" in shown and shown.endswith("END //\nDELIMITER ;\n")
    assert reaper("fence", "install", "--force").stdout.splitlines()[-1] == "The fence is installed."
    assert status(reaper) == ["installed"]
    assert "triggers fire" not in reaper("check").stdout
    assert reaper("fence", "remove", "--force").stdout.splitlines()[-1] == "The fence is absent."
    mariadb.drop_database("cli_fence")
