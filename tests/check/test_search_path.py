"""`check` says who else may put something on the path of the role, and where names of the user's are looked up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.check import Finding, Level
from reaper.profile import Profile, resolve
from reaper.profile.user_sql import LookedUpName, looked_up_names
from tests.support.checks import execute, run_check
from tests.support.overloads import TYPE_OF_AN_EXTENSION
from tests.support.protea import Protea


def about(findings: list[Finding], text: str) -> Finding:
    """The only finding with this text."""
    (finding,) = (finding for finding in findings if text in finding.message)
    return finding


def set_path(protea: Protea, path: str) -> None:
    """The search path of sessions that begin from now on."""
    protea.connection.execute(f"ALTER DATABASE {protea.connection.info.dbname} SET search_path = {path}".encode())


@pytest.fixture
def intruder(protea: Protea) -> Iterator[str]:
    name = f"intruder_{protea.connection.info.dbname}"
    protea.connection.execute(f"CREATE ROLE {name}".encode())
    yield name
    protea.connection.execute(f"DROP OWNED BY {name}".encode())
    protea.connection.execute(f"DROP ROLE {name}".encode())


@pytest.mark.thorough
def test_schema_in_which_every_role_may_create_is_named_until_it_is_revoked(protea: Protea) -> None:
    finding = about(run_check(protea.url, "GRANT CREATE ON SCHEMA public TO PUBLIC"), "may CREATE")
    assert finding.level is Level.WARNING
    assert "in the schema 'public' (PUBLIC), which is on the search path" in finding.message
    assert finding.fix == "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
    execute(protea.url, finding.fix)
    assert not [finding for finding in run_check(protea.url) if "may CREATE" in finding.message]


def test_each_schema_of_the_path_is_named_with_the_roles(protea: Protea, intruder: str) -> None:
    script = (
        f"CREATE SCHEMA first AUTHORIZATION {intruder}",
        f"GRANT CREATE ON SCHEMA public TO {intruder}, PUBLIC",
        f"CREATE SCHEMA besides AUTHORIZATION {intruder}",
    )
    set_path(protea, "first, public")
    fixes = [finding.fix for finding in run_check(protea.url, *script) if "may CREATE" in finding.message]
    assert fixes == [
        f"REVOKE CREATE ON SCHEMA first FROM {intruder};",
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {intruder};",
    ]


def test_schema_that_another_role_could_put_before_the_tables_is_named(protea: Protea, intruder: str) -> None:
    """`"$user"` stands first in the path of every database; only a role of that name has a schema of that name."""
    database = protea.connection.info.dbname
    for statement in (f"GRANT CREATE ON DATABASE {database} TO {intruder}", "CREATE SCHEMA there"):
        execute(protea.url, statement)
    for path, absent in (('"$user", public', ["postgres"]), ("app, pg_temp, there, app, public, later", ["app"])):
        set_path(protea, path)
        finding = about(run_check(protea.url), "may create schemas")
        assert finding.level is Level.WARNING and finding.subject == "server"
        assert f"has {', '.join(map(repr, absent))}, which does not exist, before" in finding.message
        assert f"({intruder})" in finding.message and "job, job_event can mean tables of theirs" in finding.message
    for path, fix in (("there, public, app", None), ("app, public", finding.fix)):
        set_path(protea, path)
        if fix is not None:
            assert fix == f"REVOKE CREATE ON DATABASE {database} FROM {intruder};"
            execute(protea.url, fix)
        assert not [finding for finding in run_check(protea.url) if "may create schemas" in finding.message]


def test_owner_of_the_tables_and_administrators_may_create(protea: Protea, intruder: str) -> None:
    script = (f"GRANT CREATE ON SCHEMA public TO {intruder}", f"ALTER TABLE job OWNER TO {intruder}")
    assert not [finding for finding in run_check(protea.url, *script) if "may CREATE" in finding.message]
    protea.connection.execute("ALTER TABLE job OWNER TO CURRENT_USER")


def test_schema_that_the_profile_looks_into_is_an_error(protea: Protea, intruder: str) -> None:
    profile = with_sql("{operation} = app_name()", search_path=["app"])
    script = ("CREATE SCHEMA app", f"GRANT CREATE ON SCHEMA app TO {intruder}")
    finding = about(run_check(protea.url, *script, profile=profile), "may CREATE")
    assert finding.level is Level.ERROR and "the profile's `sql`" in finding.message
    assert finding.fix == f"REVOKE CREATE ON SCHEMA app FROM {intruder};"


def test_type_of_an_extension_is_compared_along_its_schema(protea: Protea) -> None:
    """Its operators are there: in a schema where others may create, `check` calls that an error."""
    for statement in TYPE_OF_AN_EXTENSION:
        protea.connection.execute(statement.encode())
    protea.connection.execute("ALTER TABLE job ALTER COLUMN queue_name TYPE tag USING queue_name::tag")
    profile = with_sql("true", column={"column": "queue_name", "in": ["q"]})
    finding = about(run_check(protea.url, "GRANT CREATE ON SCHEMA public TO PUBLIC", profile=profile), "may CREATE")
    assert finding.level is Level.ERROR and "types of extensions" in finding.message


def test_trigger_before_a_statement_is_named_until_its_function_has_a_path(protea: Protea) -> None:
    script = (
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER early BEFORE UPDATE ON job FOR EACH STATEMENT EXECUTE FUNCTION note()",
        "CREATE TRIGGER late AFTER UPDATE ON job FOR EACH STATEMENT EXECUTE FUNCTION note()",
        "CREATE TRIGGER row BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION note()",
    )
    finding = about(run_check(protea.url, *script), "runs before a whole statement")
    assert finding.message.startswith("the trigger early runs") and finding.level is Level.WARNING
    assert finding.fix == 'ALTER FUNCTION public.note() SET search_path = "$user", public;'
    execute(protea.url, finding.fix)
    assert not [finding for finding in run_check(protea.url) if "whole statement" in finding.message]


def test_default_by_a_function_in_sql_is_named_until_that_has_a_path(protea: Protea) -> None:
    script = (
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION number() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('numbers')$$",
        "CREATE FUNCTION slow() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RETURN nextval('numbers'); END$$",
        "ALTER TABLE job_event ADD extra bigint DEFAULT number(), ADD more bigint DEFAULT slow()",
        "ALTER TABLE job ADD extra bigint DEFAULT number()",
    )
    finding = about(run_check(protea.url, *script), "its default calls")
    assert (finding.level, finding.subject) == (Level.NOTE, "job_event.extra")
    protea.stale()
    report = protea.sweep()
    assert report.reaped == 0 and 'relation "numbers" does not exist' in report.failures[0].error
    assert finding.fix == 'ALTER FUNCTION public.number() SET search_path = "$user", public;'
    execute(protea.url, finding.fix)
    assert protea.sweep().reaped == 1
    assert not [finding for finding in run_check(protea.url) if "its default calls" in finding.message]


# --- the user's own SQL ----------------------------------------------------------------------------------------------


def with_sql(sql: str, *, column: dict[str, object] | None = None, **keys: object) -> Profile:
    """The profile protea, whose jobs are also deleted only where this holds."""
    where = [{"column": "status", "in": ["succeeded"]}, {"sql": sql}, *([column] if column else [])]
    own = {"extends": "protea", "purge": {"where": where, "at": "finished_at"}, **keys}
    return resolve("mine", {"mine": own})


_FUNCTIONS = (
    "CREATE SCHEMA app",
    "CREATE FUNCTION app.is_old(timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true",
    "CREATE FUNCTION app.lower(uuid) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x'",
    "CREATE OPERATOR app.<=> (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = uuid_eq)",
)


@pytest.mark.parametrize("path", ["app, public", "public"])
def test_name_outside_of_pg_catalog_is_an_error_until_the_profile_has_its_schema(protea: Protea, path: str) -> None:
    set_path(protea, path)
    profile = with_sql("is_old({finished_at}) AND lower('A') = 'a'")
    findings = run_check(protea.url, *_FUNCTIONS, profile=profile)
    finding = about(findings, "is_old")
    assert finding.level is Level.ERROR
    assert finding.message == (
        "purge.where.1.sql: the function is_old is in the schema 'app', and names without a schema are looked up in "
        'pg_catalog: write app.is_old, or set search_path = ["app"] for the source or in the profile'
    )
    assert not [finding for finding in findings if "lower" in finding.message]


def test_names_found_along_the_profile_s_path_are_named_with_their_schema(protea: Protea) -> None:
    sql = "is_old({finished_at}) AND lower('A') = 'a' AND {id} <=> {id} AND {id} OPERATOR(app.<=>) {id} AND now() > '1'"
    findings = run_check(protea.url, *_FUNCTIONS, profile=with_sql(sql, search_path=["app"]))
    messages = [finding.message for finding in findings if finding.message.startswith("purge.where.1.sql")]
    assert messages == [
        "purge.where.1.sql: the function is_old is found in the schema 'app', along search_path: write app.is_old, so "
        "that no other can take its place",
        "purge.where.1.sql: the function lower is also found in the schema 'app', along search_path: write app.lower, "
        "so that no other can take its place",
        "purge.where.1.sql: the operator <=> is found in the schema 'app', along search_path: write OPERATOR(app.<=>), "
        "so that no other can take its place",
    ]


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("f(a) AND g . h (b)", [("function", "f")]),
        ('"F""x" (a)', [("function", 'F"x')]),
        ("F(1)::app.t, 2::t2", [("function", "f"), ("type", "t2")]),
        ("'it''s f(x)' || E'\\' g(y)' || $q$ h(z) $q$", [("operator", "||"), ("operator", "||")]),
        ("1 -- f(x)\n + /* g(x) */ 2", [("operator", "+")]),
        ("EXISTS (SELECT FROM t JOIN app.u ON true)", [("function", "exists"), ("table", "t")]),
        ("a OPERATOR(app.=) b", []),
    ],
)
def test_names_without_a_schema_are_found_in_sql(sql: str, names: list[tuple[str, str]]) -> None:
    assert list(looked_up_names(sql)) == [LookedUpName(*name) for name in names]
