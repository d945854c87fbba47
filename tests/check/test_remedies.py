"""Each kind of remedy that `reaper check` prints is run as printed, and then `check` no longer says what it is for."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url

import reaper.check
from reaper.check import Finding, examine
from reaper.check.checks.fence import check_fence
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.profile import Profile, resolve
from reaper.source import Source
from tests.conftest import TEMPLATE
from tests.support.checks import STALL, connected, execute, profile_with_fix
from tests.support.commands import Reaper
from tests.support.mariadb import MariaDB
from tests.support.mariadb_checks import CheckedMariaDB, tables_of
from tests.support.protea import PATIENCE, thresholds

ROLE = "remedied"


@dataclass(frozen=True)
class Remedy:
    """What provokes a finding, words of it, and the kind of its remedy: what makes it in `reaper.check`."""

    kind: str
    words: str
    provoked_by: Sequence[str] = ()
    profile: str = "protea"


NOETL = (Path(reaper.__file__).parent / "profiles" / "noetl.sql").read_text()
NOTE = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
ON_POSTGRESQL = [
    Remedy("grant_read_row_holder", "may not SELECT xmax"),
    Remedy("grant", "may not SELECT"),
    Remedy("grant_sessions", "does not see the state of other sessions"),
    Remedy("grant_schema", "may not use the schema", ["REVOKE USAGE ON SCHEMA public FROM PUBLIC"]),
    Remedy(
        "grant_sequence",
        "may not take the next value of the sequence",
        [
            "ALTER TABLE job_event ALTER id DROP IDENTITY",
            "CREATE SEQUENCE event_ids",
            "ALTER TABLE job_event ALTER id SET DEFAULT nextval('event_ids')",
        ],
    ),
    Remedy(
        "grant_function",
        "may not EXECUTE the function",
        [
            "CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
            "REVOKE EXECUTE ON FUNCTION fine FROM PUBLIC",
            "ALTER TABLE job ADD CHECK (fine(error_message))",
        ],
    ),
    Remedy("create_index", "no index finds the running jobs", ["DROP INDEX ix_job_status_created_at"]),
    Remedy(
        "rebuild",
        "is invalid: every write updates it",
        ["UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_job_event_event_ts'::regclass"],
    ),
    Remedy("add_foreign_key", "no foreign key from", ["ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey"]),
    Remedy("add_unique", "is not unique", ["ALTER TABLE job DROP CONSTRAINT job_pkey CASCADE"]),
    Remedy("not_null", "may be NULL", ["ALTER TABLE job ALTER id DROP NOT NULL"]),
    Remedy("as_instant", "the statement reads it as UTC", ["ALTER TABLE job ALTER started_at TYPE timestamp"]),
    Remedy("retype", "can never be ended", ["ALTER TABLE job ALTER error_message TYPE varchar(60)"]),
    Remedy(
        "drop_rule",
        "which PostgreSQL refuses within WITH",
        ["CREATE RULE nothing AS ON INSERT TO job_event DO INSTEAD NOTHING"],
    ),
    Remedy("revoke_create", "may CREATE", ["GRANT CREATE ON SCHEMA public TO PUBLIC"]),
    Remedy(
        "revoke_create_schemas",
        "may create schemas in the database",
        ["DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO PUBLIC', current_database()); END $$"],
    ),
    Remedy(
        "set_path_of_function",
        "runs before a whole statement",
        [NOTE, "CREATE TRIGGER early BEFORE UPDATE ON job FOR EACH STATEMENT EXECUTE FUNCTION note()"],
    ),
    Remedy("set_for_role", "a longer survey is cut off", [f"ALTER ROLE {ROLE} SET transaction_timeout = '7s'"]),
    Remedy(
        "set_for_role",
        "default_transaction_read_only is on",
        [f"ALTER ROLE {ROLE} SET default_transaction_read_only = on"],
    ),
    Remedy(
        "show_all_rows",
        "row-level security may hide rows",
        [
            "ALTER TABLE job_event ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON job_event FOR INSERT WITH CHECK (true)",
        ],
    ),
    Remedy(
        "grant_lock_table",
        "may not LOCK the table",
        [NOETL, f"GRANT USAGE ON SCHEMA noetl TO {ROLE}", f"GRANT SELECT, INSERT ON noetl.event TO {ROLE}"],
        profile="noetl",
    ),
    Remedy(
        "install",
        "the fence is not as it was installed",
        ["reaper fence install --source default", "DROP TRIGGER reaper_fence ON job"],
    ),
    Remedy("switched_off", "the fence is switched off", ["ALTER ROLE postgres SET reaper.fence = 'off'"]),
    Remedy("OVERRIDE", "no such column; did you mean", ["ALTER TABLE job RENAME error_message TO err_message"]),
    Remedy(
        "extend_search_path",
        "no such table in the search path",
        ["CREATE SCHEMA app", "ALTER TABLE job_event SET SCHEMA app", f"GRANT USAGE ON SCHEMA app TO {ROLE}"],
    ),
]
"""In the order in which they are run, on one database: what one mends, the next finds mended."""

ON_MARIADB = [
    Remedy("grant_sessions", "does not have the privilege PROCESS"),
    Remedy("grant", "does not exist, or"),
    Remedy("create_index", "no index finds", ["ALTER TABLE job DROP INDEX ix_job_status_created_at"]),
    Remedy(
        "rebuild",
        "the index ix_job_event_event_ts",
        ["ALTER TABLE job_event ALTER INDEX ix_job_event_event_ts IGNORED"],
    ),
    Remedy("with_fractions", "cuts off fractions", ["ALTER TABLE job MODIFY COLUMN started_at datetime NULL"]),
    Remedy("retype", "can never be ended", ["ALTER TABLE job MODIFY COLUMN error_message varchar(60)"]),
    Remedy(
        "add_unique",
        "is not unique",
        [
            "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
            "ALTER TABLE job DROP FOREIGN KEY job_parent",
            "ALTER TABLE job DROP PRIMARY KEY,"
            " MODIFY COLUMN id char(36) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT (uuid())",
        ],
    ),
    Remedy("not_null", "may be NULL"),
    Remedy(
        "collate",
        "cannot be compared with job.id",
        [
            "ALTER TABLE job MODIFY COLUMN id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL"
            " DEFAULT (uuid())",
            "ALTER TABLE job_event MODIFY COLUMN job_id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
            " NOT NULL",
        ],
    ),
    Remedy(
        "lockable",
        "table of the engine MyISAM",
        [
            "ALTER TABLE job_event DROP INDEX ix_job_event_event_ts",
            "ALTER TABLE job_event ENGINE = MyISAM",
        ],
    ),
    Remedy("add_foreign_key", "no foreign key"),
    Remedy("set_globally", "is read-only, or a replica", ["SET GLOBAL read_only = ON"]),
]


@dataclass
class OnPostgreSQL:
    """Tables of protea, and what `check` says to a role that has no privileges at first."""

    url: str
    folder: Path

    def do(self, statement: str) -> None:
        """As an administrator, or as a person who types a command."""
        if statement.startswith("reaper "):
            reaper = Reaper(self.folder, {"REAPER_DATABASE_URL": self.url})
            result = reaper(*shlex.split(statement)[1:], "--force")
            assert result.exit_code == 0, result.output
            return
        execute(self.url, statement)

    def findings(self, profile: Profile) -> list[Finding]:
        with connected(make_url(self.url).set(username=ROLE)) as connection:
            found = examine(connection, profile, STALL)
        return [*found, *check_fence(Source("default", self.url, profile, thresholds(), PATIENCE))]


@pytest.fixture
def on_postgresql(server: PrivatePostgreSQL, tmp_path: Path) -> Iterator[OnPostgreSQL]:
    url = server.create_database("remedies", tables=False, template=TEMPLATE)
    execute(url, f"CREATE ROLE {ROLE} LOGIN")
    yield OnPostgreSQL(url, tmp_path)
    for statement in ("ALTER ROLE postgres RESET ALL", f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}"):
        execute(url, statement)
    server.drop_database("remedies")


def test_every_remedy_on_postgresql_ends_its_finding(on_postgresql: OnPostgreSQL) -> None:
    for remedy in ON_POSTGRESQL:
        for statement in remedy.provoked_by:
            on_postgresql.do(statement)
        profile = resolve(remedy.profile)
        for fix in fixes_for(remedy, on_postgresql.findings(profile)):
            if fix.startswith("["):
                profile = profile_with_fix(fix)
            else:
                on_postgresql.do(fix)
        assert [f for f in on_postgresql.findings(profile) if remedy.words in f.message] == [], remedy


@pytest.fixture
def on_mariadb(mariadb: MariaDB) -> Iterator[tuple[CheckedMariaDB, str]]:
    for checked in tables_of(mariadb, "protea"):
        yield checked, checked.create_user(f"CREATE TEMPORARY TABLES ON {checked.name}.*")
        checked.do("SET GLOBAL read_only = OFF")


def test_every_remedy_on_mariadb_ends_its_finding(on_mariadb: tuple[CheckedMariaDB, str]) -> None:
    checked, user = on_mariadb
    for remedy in ON_MARIADB:
        checked.do(*remedy.provoked_by)
        checked.do(*fixes_for(remedy, checked.check(user=user)))
        assert [f for f in checked.check(user=user) if remedy.words in f.message] == [], remedy


def fixes_for(remedy: Remedy, findings: Sequence[Finding]) -> list[str]:
    """As printed: what is not one is no remedy."""
    found = [finding.fix for finding in findings if remedy.words in finding.message]
    fixes = [fix for fix in dict.fromkeys(found) if fix is not None]
    assert found and None not in found, remedy
    return fixes


# --- completeness -------------------------------------------------------------------------------------------------


def test_every_kind_of_remedy_is_in_a_table() -> None:
    """One that is new needs a row, which provokes its finding and runs it."""
    folder = Path(reaper.check.__file__).parent
    kinds = {kind for path in folder.rglob("*.py") for kind in kinds_in(ast.parse(path.read_text()))}
    assert kinds == {remedy.kind for remedy in (*ON_POSTGRESQL, *ON_MARIADB)}


def kinds_in(module: ast.Module) -> Iterator[str]:
    """What makes the third argument of each finding: a method of the statements, or what stands for lines or words."""
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            position = {"error": 2, "warning": 2, "note": 2, "Finding": 3}.get(call.func.id)
            fixes = [word.value for word in call.keywords if word.arg == "fix"]
            if position is not None:
                for fix in (*call.args[position : position + 1], *fixes):
                    yield from _kinds(fix, module)


def _kinds(fix: ast.expr, module: ast.Module) -> Iterator[str]:
    match fix:
        case ast.Constant(value=None):
            return
        case ast.IfExp(body=first, orelse=second):
            yield from _kinds(first, module)
            yield from _kinds(second, module)
        case ast.Name(id="OVERRIDE"):
            yield "OVERRIDE"
        case ast.Name(id=name):
            yield from _assigned(name, module)
        case ast.Attribute(attr=name):
            yield name
        case ast.Call(func=ast.Attribute(attr="join"), args=[listed]):
            yield from _kinds(listed, module)
        case ast.Call(func=ast.Attribute(attr=name)):
            yield name
        case ast.Call(func=ast.Name(id=name)):
            yield from _assigned(name, module)
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            yield text.split()[2]
        case _:
            raise AssertionError(f"what makes this remedy is not known: {ast.unparse(fix)}")


def _assigned(name: str, module: ast.Module) -> Iterator[str]:
    """The kinds of what a variable is set to, or what a function of the module returns."""
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=other)], value=value) if other == name:
                yield from _kinds(value, module)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=True):
                    if isinstance(target, ast.Name) and target.id == name:
                        yield from _kinds(value, module)
            case ast.For(
                target=ast.Tuple(elts=[ast.Name(id=other), *_]),
                iter=ast.Call(func=ast.Attribute(value=ast.Name(id=collected))),
            ) if other == name:
                for call in ast.walk(module):
                    match call:
                        case ast.Call(
                            func=ast.Attribute(value=ast.Name(id=into), attr="setdefault"), args=[key, *_]
                        ) if into == collected:
                            yield from _kinds(key, module)
            case ast.FunctionDef(name=other):
                if other == name:
                    for inner in ast.walk(node):
                        if isinstance(inner, ast.Return) and inner.value is not None:
                            yield from _kinds(inner.value, module)
