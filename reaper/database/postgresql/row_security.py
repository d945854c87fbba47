"""Row-level security: does it keep rows from whoever reads a table?

All rows are shown where it is not active for the reader, and where a permissive policy for him is plainly `true` and no
restrictive one narrows that. What any other policy shows depends on the row, and may be nothing.

The tables behind a view are read by its owner, or by whoever asks where it has `security_invoker`. The partitions of a
table are read through its own policies. Limitation: a view that leaves rows out by itself, and a function that it
calls, are not seen through; and of policies that somebody puts up while a sweep is under way the next one learns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.sql.tables import table_of

_PREPARER = PGDialect_psycopg().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class RowRestriction:
    """A table whose policies may keep rows from `reader` who does what `command` says: SELECT, INSERT, UPDATE, DELETE.

    `schema` and `name` are where the policies stand. Where it is `narrowed`, by a restrictive one, no other helps.
    """

    schema: str
    name: str
    reader: str
    command: str
    narrowed: bool


_QUESTION = """
WITH RECURSIVE readings (oid, reader, ours) AS (
    SELECT asked.oid, {reader}, {reader} FROM {asked} AS asked (oid)
    UNION
    SELECT d.refobjid, CASE WHEN EXISTS (
        SELECT FROM pg_options_to_table(v.reloptions) WHERE option_name = 'security_invoker' AND option_value::boolean
    ) THEN b.ours ELSE v.relowner END, b.ours
    FROM readings b JOIN pg_class v ON v.oid = b.oid AND v.relkind = 'v' JOIN pg_rewrite w ON w.ev_class = v.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
), policies AS (
    SELECT p.*, pg_get_expr(p.polqual, p.polrelid) AS shown,
           pg_get_expr(coalesce(p.polwithcheck, p.polqual), p.polrelid) AS checked
    FROM pg_policy p
)
SELECT n.nspname::text AS schema, c.relname::text AS name, coalesce(who.rolname::text, '') AS reader, command,
       found.narrowed
FROM readings b JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_roles who ON who.oid = b.reader
CROSS JOIN unnest({commands}) AS command
CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(p.polpermissive AND allowed.all), false) AS open,
           coalesce(bool_or(NOT p.polpermissive AND NOT allowed.all), false) AS narrowed
    FROM policies p CROSS JOIN LATERAL (
        SELECT coalesce(command = 'INSERT' OR p.shown = 'true', NOT p.polpermissive)
               AND coalesce(command NOT IN ('INSERT', 'UPDATE') OR p.checked = 'true', NOT p.polpermissive)
    ) AS allowed ("all")
    WHERE p.polrelid = c.oid
          AND (p.polcmd = '*' OR p.polcmd = CASE command WHEN 'SELECT' THEN 'r' WHEN 'INSERT' THEN 'a'
                                                         WHEN 'UPDATE' THEN 'w' ELSE 'd' END::"char")
          AND EXISTS (SELECT FROM unnest(p.polroles) role WHERE role = 0 OR pg_has_role(who.oid, role, 'USAGE'))
) AS found
WHERE c.relrowsecurity AND NOT coalesce(who.rolsuper OR who.rolbypassrls, false)
      AND (c.relforcerowsecurity OR NOT coalesce(pg_has_role(who.oid, c.relowner, 'USAGE'), false))
      AND (found.narrowed OR NOT found.open)
ORDER BY 1, 2, 3, 4
"""


def restrictions_query(asked: str, reader: str, commands: str) -> TextClause:
    """Asks for each Hiding. All is SQL: a relation of oids, a role's oid, an array."""
    return text(_QUESTION.format(asked=asked, reader=reader, commands=commands))


def fix(found: RowRestriction, quote: Callable[[str], str]) -> str:
    """The statement that shows the reader every row, or lets him write any."""
    reader = quote(found.reader)
    if found.narrowed:
        return f"ALTER ROLE {reader} BYPASSRLS;"
    return f"CREATE POLICY {reader} ON {quote(found.schema)}.{quote(found.name)} TO {reader} USING (true);"


# --- what is asked before anything is judged -------------------------------------------------------------------------

_NAMED = "(SELECT to_regclass(name)::oid FROM unnest(CAST(:tables AS text[])) AS name)"
_US = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"
_HIDING_FROM_US = restrictions_query(_NAMED, _US, "ARRAY['SELECT']")
# Hardly any table has policies, and to plan the question above takes longer than all else that a sweep begins with.
_ANY = text(
    "SELECT EXISTS (SELECT FROM unnest(CAST(:tables AS text[])) AS name JOIN pg_class c ON c.oid = to_regclass(name)"
    " WHERE c.relrowsecurity OR c.relkind = 'v')"
)


def has_policies_query(tables: Collection[str]) -> TextClause:
    """Asks whether `hiding_from_us` is worth asking: one of the tables has policies or is a view."""
    return _ANY.bindparams(tables=_names(tables))


def own_restrictions_query(tables: Collection[str]) -> TextClause:
    """Asks which policies may hide rows of these tables."""
    return _HIDING_FROM_US.bindparams(tables=_names(tables))


def _names(tables: Collection[str]) -> list[str]:
    return [_PREPARER.format_table(table_of(name, ())) for name in sorted(tables)]


def hidden_rows(connection: Connection, tables: Collection[str], consequence: str) -> str | None:
    """Which of the tables may hide rows from the role, what follows, and what helps; None when it sees them all."""
    if not tables or not connection.execute(has_policies_query(tables)).scalar_one():
        return None
    found = [RowRestriction(**row._mapping) for row in connection.execute(own_restrictions_query(tables))]
    if not found:
        return None
    named = ", ".join(dict.fromkeys(f"{each.schema}.{each.name}" for each in found))
    readers = ", ".join(dict.fromkeys(repr(each.reader) for each in found))
    fixes = "; ".join(dict.fromkeys(fix(each, _PREPARER.quote).removesuffix(";") for each in found))
    return f"row-level security may hide rows of {named} from the role {readers}: {consequence} before {fixes}"
