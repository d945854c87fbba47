"""Row-level security: whether its policies may hide rows of a table from a role.

A role sees all rows where row-level security is not active for it, and where a permissive policy for it is just `true`
and no restrictive policy narrows that. What other policies show depends on the row, and may be nothing.

The tables behind a view are read by the view's owner, or by the role itself where the view has `security_invoker`.
Partitions are read through the policies of their table. Limitations: rows that a view leaves out by itself, or through
a function, are not noticed; policies that are created while a sweep runs are noticed by the next sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection, TableClause, TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

_PREPARER = PGDialect_psycopg().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class RowRestriction:
    """A table whose policies may hide rows from a role for a command: SELECT, INSERT, UPDATE or DELETE.

    `schema` and `name` are the table that has the policies, `reader` is the role. `narrowed`: by a restrictive policy,
    so another permissive policy would not help.
    """

    schema: str
    name: str
    reader: str
    command: str
    narrowed: bool


_RESTRICTIONS = """
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


def restrictions_query(relations: str, reader: str, commands: str) -> str:
    """Returns RowRestriction rows. The arguments are SQL: a relation of oids of tables, an oid of a role, an array."""
    return _RESTRICTIONS.format(asked=relations, reader=reader, commands=commands)


def fix(restriction: RowRestriction, quote: Callable[[str], str]) -> str:
    """The statement that lets the role see every row, or write any."""
    reader = quote(restriction.reader)
    if restriction.narrowed:
        return f"ALTER ROLE {reader} BYPASSRLS;"
    return f"CREATE POLICY {reader} ON {quote(restriction.schema)}.{quote(restriction.name)} TO {reader} USING (true);"


# --- before every sweep ------------------------------------------------------------------------------------------

_NAMED_TABLES = "(SELECT to_regclass(name)::oid FROM unnest(CAST(:tables AS text[])) AS name)"
_CURRENT_ROLE = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"
_OWN_RESTRICTIONS = restrictions_query(_NAMED_TABLES, _CURRENT_ROLE, "ARRAY['SELECT']")
# Asked first, since hardly any table has policies, and planning the query above takes longer than the rest of the
# beginning of a sweep.
_HAS_POLICIES = (
    "SELECT EXISTS (SELECT FROM unnest(CAST(:tables AS text[])) AS name JOIN pg_class c ON c.oid = to_regclass(name)"
    " WHERE c.relrowsecurity OR c.relkind = 'v')"
)


def has_policies_query(tables: Collection[TableClause]) -> TextClause:
    """Whether `own_restrictions_query` is needed: one of the tables has policies or is a view."""
    return text(_HAS_POLICIES).bindparams(tables=_quoted_names(tables))


def own_restrictions_query(tables: Collection[TableClause]) -> TextClause:
    """The restrictions for the current role on these tables."""
    return text(_OWN_RESTRICTIONS).bindparams(tables=_quoted_names(tables))


def _quoted_names(tables: Collection[TableClause]) -> list[str]:
    return sorted(map(_PREPARER.format_table, tables))


def hidden_rows(connection: Connection, tables: Collection[TableClause], consequence: str) -> str | None:
    """Which of the tables may hide rows from the role, the consequence and the fix; None when it sees all rows."""
    if not tables or not connection.execute(has_policies_query(tables)).scalar_one():
        return None
    restrictions = [RowRestriction(**row._mapping) for row in connection.execute(own_restrictions_query(tables))]
    if not restrictions:
        return None
    names = ", ".join(dict.fromkeys(f"{restriction.schema}.{restriction.name}" for restriction in restrictions))
    readers = ", ".join(dict.fromkeys(repr(restriction.reader) for restriction in restrictions))
    statements = [fix(restriction, _PREPARER.quote).removesuffix(";") for restriction in restrictions]
    fixes = "; ".join(dict.fromkeys(statements))
    return f"row-level security may hide rows of {names} from the role {readers}: {consequence} before {fixes}"
