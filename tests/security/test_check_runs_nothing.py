"""`reaper check` runs no function of the owner of a table, also when an administrator runs it.

An administrator who checks a source would otherwise lend its rights to the owners of all tables there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from tests.support.commands import Reaper
from tests.support.protea import Protea

CALLED = "a function of the owner of the table was called"
FUNCTIONS = f"""
CREATE FUNCTION trap(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE LOG '{CALLED}'; RETURN value; END $$;
CREATE FUNCTION trap_holds(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE LOG '{CALLED}'; RETURN true; END $$;
"""
RUNS_SQL = "ts_rewrite('a', 'SELECT public.trap(''a'')::tsquery, ''b''::tsquery') IS NOT NULL"
TRAPS = {
    "a constraint": "ALTER TABLE job ADD CHECK (trap_holds(error_code))",
    "a constraint that runs SQL": f"ALTER TABLE job ADD CHECK ({RUNS_SQL} AND error_code <> 'x')",
    "a constraint with a domain": "CREATE DOMAIN trapped AS text CHECK (trap_holds(VALUE));"
    " ALTER TABLE job ADD CHECK (error_code::trapped <> 'x')",
    "a constraint with a cast": "CREATE TYPE coded AS (code text); CREATE FUNCTION coded(text) RETURNS coded LANGUAGE"
    " sql IMMUTABLE AS 'SELECT ROW(public.trap($1))::public.coded'; CREATE CAST (text AS coded) WITH FUNCTION"
    " coded(text); ALTER TABLE job ADD CHECK (((error_code::text)::coded).code <> 'x')",
    "a domain": "CREATE DOMAIN trapped AS text CHECK (trap_holds(VALUE)); ALTER TABLE job"
    " ALTER error_code TYPE trapped, ADD CHECK (error_code > '')",
    "a domain that runs SQL": f"CREATE DOMAIN trapped AS text CHECK ({RUNS_SQL} AND VALUE <> 'x');"
    " ALTER TABLE job ALTER error_code TYPE trapped, ADD CHECK (error_code > '')",
    "a domain in a domain": "CREATE DOMAIN trapped AS text CHECK (trap_holds(VALUE)); CREATE DOMAIN outer_domain AS"
    " text CHECK ((VALUE::trapped)::text <> 'x'); ALTER TABLE job ALTER error_code TYPE outer_domain,"
    " ADD CHECK (error_code > '')",
    "an array of a domain": "CREATE DOMAIN trapped AS text CHECK (trap_holds(VALUE)); ALTER TABLE job ALTER error_code"
    " TYPE trapped[] USING NULL",
    "an index": "CREATE INDEX trapped ON job (id) WHERE trap_holds(operation)",
    "an index with a condition on no column": "CREATE INDEX trapped ON job (id) WHERE trap('x') = 'x'",
    "an index beside a state in free text": "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text;"
    " CREATE INDEX trapped ON job (id) WHERE trap('x') = 'x'",
    "an index on a constant": "CREATE INDEX trapped ON job (id, trap('x'))",
    "an index with a domain": "CREATE DOMAIN trapped AS text CHECK (trap_holds(VALUE)); CREATE INDEX trapped ON job"
    " (started_at) WHERE (operation::trapped)::text <> 'x'",
    "a default": "ALTER TABLE job ALTER error_message SET DEFAULT trap('x')",
    "a view of signs": "ALTER TABLE job_event RENAME TO events; CREATE VIEW job_event AS SELECT * FROM events"
    " WHERE trap('x') = 'x'",
    "a view of jobs": "ALTER TABLE job RENAME TO jobs; CREATE VIEW job AS SELECT * FROM jobs WHERE trap('x') = 'x'",
}


@pytest.mark.parametrize("where", TRAPS)
def test_check_by_an_administrator_calls_no_function_of_a_tables_owner(
    where: str, protea: Protea, server: PrivatePostgreSQL, tmp_path: Path
) -> None:
    protea.stale()
    protea.connection.execute((FUNCTIONS + TRAPS[where]).encode())
    begin = server.log.stat().st_size
    checked = Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url})("check")
    assert "Traceback" not in checked.output
    with server.log.open(errors="replace") as log:
        log.seek(begin)
        assert [line for line in log if CALLED in line] == [], checked.output
