"""What PostgreSQL would call of others' while a check evaluates an expression, or reads from a table or a view.

The server's own functions and operators are not among the dependencies in its catalogs, so that what is there belongs
to an extension or to a user. Casts call functions, too, and the checks of domains; a cast is not printed as a call.
Some of the server's own functions run SQL that is in their arguments. A planner already calls functions that it takes
for immutable, and those that it takes for stable in order to estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Row

Rows = Callable[..., Sequence[Row[Any]]]
"""Runs a query with these parameters."""

_FIRST_OF_USERS = 16384
"""The server's own objects have smaller numbers."""
# The parts of a type: what a domain restricts and what its checks name, members of arrays and of rows.
_TYPES = f"""
types (oid) AS (
    SELECT asked.oid FROM asked
    UNION
    SELECT part.oid FROM types JOIN pg_type t ON t.oid = types.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype UNION ALL SELECT t.typelem
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                  WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT d.refobjid FROM pg_constraint k JOIN pg_depend d
                  ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_type'::regclass
                  WHERE k.contypid = t.oid
    ) AS part (oid) WHERE part.oid <> 0
), running_sql (name) AS (
    SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
           AND (p.provolatile = 'v' OR strpos(p.proname::text, 'to_xml') > 0)
), calling_types (oid) AS (
    SELECT t.oid FROM types JOIN pg_type t ON t.oid = types.oid
    WHERE t.oid >= {_FIRST_OF_USERS} AND (
        t.typtype IN ('r', 'm')
        OR EXISTS (SELECT FROM pg_cast c WHERE t.oid IN (c.castsource, c.casttarget) AND c.castfunc <> 0)
        OR EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = t.oid AND (
            EXISTS (SELECT FROM running_sql r WHERE strpos(pg_get_expr(k.conbin, 0), r.name || '(') > 0)
            OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
                       AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)))))
)
"""  # noqa: S608
# to_regtype would refuse a type in a schema that the role may not use.
_EXPRESSION = f"""
WITH RECURSIVE named (name) AS (
    SELECT DISTINCT regexp_replace(name, '[(][0-9]+(,-?[0-9]+)?[)]', '')
    FROM unnest(CAST(:types AS text[])) AS given (name)
), asked (oid) AS (SELECT t.oid FROM named JOIN pg_type t ON format_type(t.oid, NULL) = named.name),
{_TYPES}
SELECT EXISTS (SELECT FROM calling_types)
       OR EXISTS (SELECT FROM running_sql r WHERE r.name = ANY (CAST(:functions AS text[])))
"""  # noqa: S608
# A view's functions are called with the rights of the role that reads it, and so are those of the policies behind it.
# A planner simplifies the expressions and conditions of all indexes of a table.
_READING = f"""
WITH RECURSIVE read (oid) AS (
    SELECT CAST(:oid AS oid)
    UNION
    SELECT d.refobjid FROM read JOIN pg_rewrite w ON w.ev_class = read.oid AND w.ev_type = '1'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
), indexes (oid, relid) AS (
    SELECT i.indexrelid, i.indrelid FROM read JOIN pg_index i ON i.indrelid = read.oid
    WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
), used (class, oid) AS (
    SELECT d.refclassid, d.refobjid FROM read JOIN pg_rewrite w ON w.ev_class = read.oid AND w.ev_type = '1'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
    UNION ALL
    SELECT d.refclassid, d.refobjid FROM read JOIN pg_class c ON c.oid = read.oid AND c.relrowsecurity
    JOIN pg_policy p ON p.polrelid = c.oid
    JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    UNION ALL
    SELECT d.refclassid, d.refobjid FROM indexes
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = indexes.oid
), asked (oid) AS (SELECT oid FROM used WHERE class = 'pg_type'::regclass),
{_TYPES}
SELECT EXISTS (SELECT FROM used WHERE class IN ('pg_proc'::regclass, 'pg_operator'::regclass))
       OR EXISTS (SELECT FROM calling_types)
       OR EXISTS (SELECT FROM read JOIN pg_class c ON c.oid = read.oid AND c.relkind = 'v' JOIN running_sql r
                  ON strpos(pg_get_viewdef(c.oid), r.name || '(') > 0)
       OR EXISTS (SELECT FROM indexes JOIN running_sql r ON strpos(pg_get_indexdef(indexes.oid), r.name || '(') > 0)
"""  # noqa: S608

# As the server prints it while the path is pinned: only what is not in pg_catalog has its schema before it.
_LITERALS = re.compile(r"E?'(?:[^'\\]|''|\\.)*'")
_NAME = r"""(?:\w+|"(?:[^"]|"")+")"""
_CALL_OF_OTHERS = re.compile(rf"""\bOPERATOR\(|(?<!["\w])(?!pg_catalog\.){_NAME}\.{_NAME}\(""")
_CALL = re.compile(rf"({_NAME})\(")
_CAST = re.compile(rf"::({_NAME}\.{_NAME})")


def expression_calls_others(rows: Rows, expression: str, types: Iterable[str]) -> bool:
    """Whether an expression from the catalogs, or a value of one of these types, calls what is not the server's own."""
    without_literals = _LITERALS.sub("''", expression)
    if _CALL_OF_OTHERS.search(without_literals):
        return True
    functions = [name.strip('"') for name in _CALL.findall(without_literals)]
    all_types = [*types, *_CAST.findall(without_literals)]
    return bool(rows(_EXPRESSION, types=all_types, functions=functions)[0][0])


def reading_calls_others(rows: Rows, oid: int) -> bool:
    """Whether reading from this table or view calls what is not the server's own."""
    return bool(rows(_READING, oid=oid)[0][0])
