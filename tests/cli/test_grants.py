"""`reaper grants`: what it prints can be executed as it stands, and is what the settings ask for."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from reaper.cli import exit_codes
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.grants.statements import OptionalGrant
from tests.support import shipped_grants
from tests.support.commands import AWAY, Reaper, without_notice
from tests.support.mariadb import MariaDB, statements
from tests.support.protea import Protea
from tests.support.worlds.postgresql import PostgreSQLDatabase

_numbers = itertools.count()


@pytest.fixture
def role(database: str) -> str:
    """The name of a role that does not exist; nothing is allowed to everybody."""
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        owner.execute(f"REVOKE ALL ON DATABASE {make_url(database).database} FROM PUBLIC".encode())
    return f"printed_{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def reaper(protea: Protea, tmp_path: Path) -> Reaper:
    """As the owner of the tables."""
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url})


def run(url: str, script: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(script.encode())


def as_role(reaper: Reaper, url: str, role: str) -> Reaper:
    given = {**reaper.given, "REAPER_DATABASE_URL": make_url(url).set(username=role).render_as_string()}
    return Reaper(reaper.folder, given)


def live(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("-- ")]


# --- as it stands --------------------------------------------------------------------------------------------------


def test_granted_role_can_check_sweep_report_and_explain(reaper: Reaper, protea: Protea, role: str) -> None:
    job = protea.stale()
    run(protea.url, reaper("grants", "--role", role).stdout)
    least = as_role(reaper, protea.url, role)
    for command in (["check"], ["report"], ["sweep", "--yes"], ["explain", job]):
        result = least(*command)
        assert (result.exit_code, without_notice(result.stderr)) == (exit_codes.DONE, ""), (command, result.output)
    assert "0 errors" not in least("check").stdout and "error:" not in least("check").stdout
    assert protea.status(job) == "failed"


def test_check_names_what_has_been_taken_away_and_how_to_give_it_back(
    reaper: Reaper, protea: Protea, role: str
) -> None:
    run(protea.url, reaper("grants", "--role", role).stdout)
    least = as_role(reaper, protea.url, role)
    run(protea.url, f"REVOKE UPDATE (error_code) ON job FROM {role}")
    result = least("check")
    assert result.exit_code == exit_codes.FAILED
    fix = f"GRANT UPDATE (error_code) ON TABLE public.job TO {role};"
    assert f"may not UPDATE error_code\n\n    {fix}\n" in result.stdout
    run(protea.url, fix)
    assert least("check").exit_code == exit_codes.DONE


def test_existing_role_is_not_created_again(reaper: Reaper, protea: Protea, role: str) -> None:
    first = reaper("grants", "--role", role).stdout
    assert live(first)[0] == f"CREATE ROLE {role} LOGIN;"
    run(protea.url, first)
    second = reaper("grants", "--role", role).stdout
    assert live(second) == live(first)[1:] and f"-- The role {role} exists already." in second
    run(protea.url, second)


def test_json_document_has_the_same_statements_as_the_text(reaper: Reaper, role: str) -> None:
    document = reaper.json("grants", "--role", role, "--with", "purge", "--with", "holders")
    assert document["statements"] == live(
        reaper("grants", "--role", role, "--with", "purge", "--with", "holders").stdout
    )
    assert (document["command"], document["source"], document["role"], document["action"]) == (
        "grants",
        "default",
        role,
        "fail",
    )
    assert {option["extra"] for option in document["options"]} == {"purge", "fence", "holders"}
    assert all(grant["why"] for grant in document["needed"])


def test_optional_grants_are_comments_until_with_includes_them(reaper: Reaper, protea: Protea, role: str) -> None:
    without = reaper("grants", "--role", role).stdout
    for extra in OptionalGrant:
        with_it = reaper("grants", "--role", role, "--with", extra.value).stdout
        added = [line for line in live(with_it) if line not in live(without)]
        assert bool(added) == (extra is not OptionalGrant.ACTIONS)  # protea has but one action
        assert all(f"-- {line}" in without.splitlines() for line in added)
        run(protea.url, with_it)


def test_fence_can_be_installed_by_a_role_with_the_optional_grant(reaper: Reaper, protea: Protea, role: str) -> None:
    run(protea.url, reaper("grants", "--role", role, "--with", "fence").stdout)
    least = as_role(reaper, protea.url, role)
    assert least("fence", "install", "--force").exit_code == exit_codes.DONE
    job = protea.stale()
    assert least("sweep", "--yes").exit_code == exit_codes.DONE
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", (job,))
    assert protea.status(job) == "failed"


def test_tables_that_only_their_owner_finds_by_their_names_are_found_by_the_role_too(
    reaper: Reaper, protea: Protea, role: str
) -> None:
    """A schema that is called like its owner is on the search path of no other role."""
    owner, job = f"{role}_app", protea.stale()
    run(
        protea.url,
        f"CREATE ROLE {owner} SUPERUSER LOGIN; CREATE SCHEMA {owner}; ALTER TABLE job SET SCHEMA {owner};"
        f"ALTER TABLE job_event SET SCHEMA {owner}",
    )
    printed = as_role(reaper, protea.url, owner)("grants", "--role", role).stdout
    path = f"ALTER ROLE {role} IN DATABASE {make_url(protea.url).database} SET search_path"
    assert f"{path} = {owner}, public;" in live(printed)
    assert not [line for line in live(reaper("grants", "--role", owner).stdout) if "search_path" in line]
    run(protea.url, printed)
    least = as_role(reaper, protea.url, role)
    for command in (["check"], ["sweep", "--yes"], ["explain", job]):
        result = least(*command)
        assert (result.exit_code, without_notice(result.stderr)) == (exit_codes.DONE, ""), (command, result.output)
    again = as_role(reaper, protea.url, owner)("grants", "--role", role).stdout
    assert not [line for line in live(again) if "search_path" in line]
    run(protea.url, f"{path} = public")
    result = least("check")
    assert result.exit_code == exit_codes.FAILED and "2 errors" in result.stdout
    assert f"    {path} = {owner}, public;\n" in result.stdout


# --- what the settings ask for -------------------------------------------------------------------------------------


def test_scheduled_purge_is_among_the_needed_grants(reaper: Reaper, protea: Protea, role: str) -> None:
    before = reaper("grants", "--role", role).stdout
    reaper.configure('[sources.default.purge]\ncron = "0 3 * * 0"\n')
    after = reaper("grants", "--role", role).stdout
    assert any("DELETE ON TABLE public.job" in line or ", DELETE ON" in line for line in live(after))
    run(protea.url, before)
    result = as_role(reaper, protea.url, role)("check")
    assert result.exit_code == exit_codes.FAILED and "may not DELETE\n" in result.stdout
    run(protea.url, after.replace("CREATE ROLE", "-- CREATE ROLE"))
    assert as_role(reaper, protea.url, role)("check").exit_code == exit_codes.DONE


def test_grants_follow_the_action_of_the_source(empty: PostgreSQLDatabase, tmp_path: Path) -> None:
    empty.create("adhese")
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": empty.url, "REAPER_PROFILE": "adhese"})
    deleting = live(reaper("grants", REAPER_ACTION="delete").stdout)
    completing = live(reaper("grants", REAPER_ACTION="complete").stdout)
    both = live(reaper("grants", "--with", "actions", REAPER_ACTION="complete").stdout)
    assert any("DELETE" in line for line in deleting) and not any("DELETE" in line for line in completing)
    assert set(completing) < set(both) and any("DELETE" in line for line in both)
    assert "UPDATE (duration, result_code, state)" in "".join(completing)
    assert "UPDATE (duration, result_code, state)" not in "".join(deleting)


# --- without a database --------------------------------------------------------------------------------------------


def test_offline_the_profile_s_word_is_taken_and_what_was_not_looked_up_is_said(
    reaper: Reaper, protea: Protea, role: str
) -> None:
    text = reaper("grants", "--offline", "--role", role, REAPER_DATABASE_URL=AWAY).stdout
    assert "-- NOTE not looked up: sequences behind defaults" in text
    assert "the schema of job, job_event; the role needs USAGE on it, and needs it in its search_path" in text
    run(protea.url, text.replace('"nothing"', str(make_url(protea.url).database)))
    run(protea.url, f"GRANT USAGE ON SCHEMA public TO {role}")
    assert as_role(reaper, protea.url, role)("check").exit_code == exit_codes.DONE


def test_unavailable_database_is_exit_status_75_and_offline_is_suggested(reaper: Reaper) -> None:
    result = reaper("grants", REAPER_DATABASE_URL=AWAY)
    assert (result.exit_code, result.stdout) == (exit_codes.AWAY, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("reaper: source default: connection failed") and "--offline" in line


# --- what is refused -----------------------------------------------------------------------------------------------


def test_reserved_or_impossible_roles_are_refused(reaper: Reaper) -> None:
    for role in ("public", "PUBLIC", "none", "pg_monitor", "", "  ", "x" * 64):
        result = reaper("grants", "--role", role)
        assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "") and "--role" in result.stderr, role


def test_source_must_be_named_when_there_are_several(reaper: Reaper, protea: Protea) -> None:
    reaper.given.pop("REAPER_DATABASE_URL")
    places = {"main": protea.url, "other": AWAY}
    reaper.configure("".join(f'[sources.{name}]\ndatabase_url = "{url}"\n' for name, url in places.items()))
    result = reaper("grants")
    assert result.exit_code == exit_codes.USAGE and "Choose one with --source" in result.stderr
    assert "did you mean 'main'" in reaper("grants", "--source", "mian").stderr
    assert live(reaper("grants", "--source", "main").stdout)


def test_missing_tables_and_columns_are_left_out_and_are_an_error(reaper: Reaper, protea: Protea, role: str) -> None:
    run(protea.url, "ALTER TABLE job_event RENAME TO events; ALTER TABLE job RENAME error_code TO code")
    result = reaper("grants", "--role", role)
    assert result.exit_code == exit_codes.FAILED
    assert "reaper: source default: job.error_code: no such column" in result.stderr
    assert "reaper: source default: job_event: no such table" in result.stderr
    assert "error_code" not in "".join(live(result.stdout)) and "job_event" not in "".join(live(result.stdout))
    run(protea.url, result.stdout)


# --- the files that are shipped ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "script", "where"), shipped_grants.SHIPPED)
def test_shipped_grant_files_are_current(
    request: pytest.FixtureRequest, tmp_path: Path, profile: str, script: str, where: str
) -> None:
    if where == "postgresql":
        server: PrivatePostgreSQL = request.getfixturevalue("server")
        text = shipped_grants.on_postgresql(server, profile, script, tmp_path)
    else:
        maria: MariaDB = request.getfixturevalue("mariadb")
        text = shipped_grants.on_mariadb(maria, profile, script, tmp_path)
    assert shipped_grants.path_of(profile, where).read_text(encoding="utf-8") == text, (
        "`python -m tests.support.shipped_grants` writes the file again"
    )


def test_grant_file_of_a_log_profile_works_without_the_privilege_maintain(
    empty: PostgreSQLDatabase, role: str, tmp_path: Path
) -> None:
    empty.create("noetl")
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": empty.url, "REAPER_PROFILE": "noetl"})
    text = shipped_grants.path_of("noetl", "postgresql").read_text(encoding="utf-8")
    text = text.replace(shipped_grants.DATABASE, str(make_url(empty.url).database)).replace("TO reaper", f"TO {role}")
    [older] = [line.partition(" use: ")[2] for line in text.splitlines() if "before PostgreSQL 17" in line]
    lines = [line for line in live(text.replace("ROLE reaper", f"ROLE {role}")) if "MAINTAIN" not in line]
    run(empty.url, "\n".join(lines))
    result = as_role(reaper, empty.url, role)("check")
    assert result.exit_code == exit_codes.FAILED and "may not LOCK the table" in result.stdout
    run(empty.url, older)
    assert as_role(reaper, empty.url, role)("check").exit_code == exit_codes.DONE


def test_shipped_grant_files_belong_to_shipped_profiles() -> None:
    expected = {shipped_grants.path_of(profile, where) for profile, _, where in shipped_grants.SHIPPED}
    assert set(shipped_grants.FOLDER.iterdir()) == expected


def test_mariadb_user_gets_columns_and_stays_locked_until_it_has_a_password(mariadb: MariaDB, tmp_path: Path) -> None:
    name = f"grants_{os.getpid()}_{next(_numbers)}"
    script = Path(__file__).parents[2] / "reaper" / "profiles" / "protea.mariadb.sql"
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": mariadb.create_database(name, script)})
    printed = reaper("grants", "--role", f"{name}@localhost").stdout
    with mariadb.connect() as owner, owner.cursor() as cursor:
        for statement in statements(printed):
            cursor.execute(statement)
        least = Reaper(tmp_path, {"REAPER_DATABASE_URL": mariadb.url(name, name)})
        assert least("check").exit_code == exit_codes.AWAY
        cursor.execute(f"ALTER USER {name}@localhost ACCOUNT UNLOCK")
        result = least("check")
        assert result.exit_code == exit_codes.DONE and "error:" not in result.stdout, result.output
        assert least("sweep", "--yes").exit_code == exit_codes.DONE
        cursor.execute(f"DROP USER {name}@localhost")
    mariadb.drop_database(name)
