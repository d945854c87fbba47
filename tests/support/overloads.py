"""A schema full of overloads: what a role that may only CREATE somewhere on a search path can put in front of others.

For each function and operator of `pg_catalog` there is one with exactly its types, and others with the types that are
sent instead of those: `varchar` for `text`, and an enum or a text for a polymorphic type. Where PostgreSQL has no
operator for two types that stand beside each other in statements, there is one for exactly these two. Whatever is
called raises an error, which the server logs.
"""

from __future__ import annotations

import psycopg

SCHEMA = "trap"
CALLED = "an overload was called"

# Each object is made in a block of its own: a few signatures cannot be written in SQL at all.
_MAKE = f"""
CREATE SCHEMA {SCHEMA};
GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC;
CREATE TYPE {SCHEMA}.label AS ENUM ('queued', 'running', 'failed');
SET check_function_bodies = off;
CREATE FUNCTION pg_temp.make(statement text) RETURNS integer LANGUAGE plpgsql AS $make$ BEGIN
    EXECUTE statement;
    RETURN 1;
EXCEPTION WHEN OTHERS THEN RETURN 0;
END $make$;
CREATE FUNCTION pg_temp.body(what text) RETURNS text LANGUAGE sql AS $make$
    SELECT format('LANGUAGE plpgsql IMMUTABLE AS $body$ BEGIN RAISE EXCEPTION %L; END $body$',
                  '{CALLED}: ' || replace(what, '%', '%%'))
$make$;
CREATE TEMP TABLE forms (name) AS VALUES ('exact'), ('varchar'), ('label'), ('text');
CREATE FUNCTION pg_temp.form(type oid, form text) RETURNS text LANGUAGE sql AS $make$
    SELECT CASE
        WHEN form = 'varchar' AND type = 'text'::regtype THEN 'varchar'
        WHEN form = 'varchar' AND type = 'text[]'::regtype THEN 'varchar[]'
        WHEN form IN ('label', 'text') AND t.typname IN ('anyelement', 'anyenum', 'anynonarray', 'anycompatible',
                                                         'anycompatiblenonarray', 'any')
            THEN CASE form WHEN 'label' THEN '{SCHEMA}.label' ELSE 'varchar' END
        WHEN form IN ('label', 'text') AND t.typname IN ('anyarray', 'anycompatiblearray')
            THEN CASE form WHEN 'label' THEN '{SCHEMA}.label[]' ELSE 'varchar[]' END
        ELSE format_type(type, NULL) END
    FROM pg_type t WHERE t.oid = type
$make$;
CREATE TEMP TABLE made AS
SELECT sum(pg_temp.make(statement)) AS functions FROM (
    SELECT DISTINCT format('CREATE FUNCTION {SCHEMA}.%I(%s) RETURNS %s %s', p.proname, arguments,
               CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END ||
               CASE WHEN r.typtype = 'p' AND r.typname <> 'record' THEN 'text' ELSE format_type(r.oid, NULL) END,
               pg_temp.body(format('%s(%s)', p.proname, arguments))) AS statement
    FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype CROSS JOIN forms CROSS JOIN LATERAL (
        SELECT coalesce(string_agg(CASE WHEN p.provariadic <> 0 AND place = p.pronargs AND a.type <> '"any"'::regtype
                                        THEN 'VARIADIC ' ELSE '' END || pg_temp.form(a.type, forms.name), ', '
                                   ORDER BY place), '') AS arguments
        FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
    ) AS form
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
) AS statements;
-- Those that take any number of arguments of any type.
SELECT sum(pg_temp.make(format('CREATE FUNCTION {SCHEMA}.%I(%s) RETURNS text %s', name, types, pg_temp.body(name))))
FROM unnest(ARRAY['concat', 'concat_ws', 'format', 'jsonb_build_object', 'jsonb_build_array', 'num_nulls']) AS name,
     (SELECT 'VARIADIC ' || type AS types FROM unnest(ARRAY['text[]', 'varchar[]', 'timestamptz[]']) AS type
      UNION ALL
      SELECT a || ', ' || b FROM unnest(ARRAY['text', 'varchar', 'timestamptz', 'jsonb', 'numeric']) AS a,
                                unnest(ARRAY['text', 'varchar', 'timestamptz', 'jsonb', 'numeric']) AS b) AS given;
CREATE TEMP TABLE pairs AS
SELECT DISTINCT o.oprname AS name, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r
FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft <> 0
UNION
SELECT name, l, r FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '~', '~~', '->>', '#>', '&'])
    AS name, unnest(ARRAY['text', 'varchar', 'name', '"char"', 'oid', 'regclass', 'smallint', 'integer', 'bigint',
                          'boolean', 'uuid', 'jsonb', 'timestamptz', 'interval', 'numeric', 'double precision',
                          '{SCHEMA}.label']) AS l,
    unnest(ARRAY['text', 'varchar', 'name', '"char"', 'oid', 'regclass', 'smallint', 'integer', 'bigint',
                 'boolean', 'uuid', 'jsonb', 'timestamptz', 'interval', 'numeric', 'double precision',
                 '{SCHEMA}.label', 'text[]']) AS r;
SELECT sum(pg_temp.make(format('CREATE FUNCTION {SCHEMA}.operator_called(%s, %s) RETURNS boolean %s', l, r,
                               pg_temp.body(format('an operator on %s and %s', l, r)))))
FROM (SELECT DISTINCT l, r FROM pairs) AS types;
INSERT INTO made
SELECT sum(pg_temp.make(format('CREATE OPERATOR {SCHEMA}.%s (LEFTARG = %s, RIGHTARG = %s,'
                               ' FUNCTION = {SCHEMA}.operator_called)', name, l, r)))
FROM pairs;
"""


TYPE_OF_AN_EXTENSION = (
    "CREATE TYPE tag",
    "CREATE FUNCTION tag_in(cstring) RETURNS tag LANGUAGE internal IMMUTABLE STRICT AS 'textin'",
    "CREATE FUNCTION tag_out(tag) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'",
    "CREATE TYPE tag (INPUT = tag_in, OUTPUT = tag_out, LIKE = text, COLLATABLE = true)",
    "CREATE CAST (text AS tag) WITHOUT FUNCTION AS ASSIGNMENT",
    "CREATE FUNCTION tag_eq(tag, tag) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'texteq'",
    "CREATE OPERATOR = (LEFTARG = tag, RIGHTARG = tag, FUNCTION = tag_eq)",
)
"""A type like that of an extension: its values are compared by an operator beside it, outside of `pg_catalog`."""


def create_overloads(url: str) -> list[int]:
    """Fill the schema. Returns how many functions and how many operators there are then."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in filter(str.strip, _statements(_MAKE)):
            connection.execute(statement.encode())
        return [count for (count,) in connection.execute("SELECT functions::int FROM made").fetchall()]


def overload_operators_of(connection: psycopg.Connection[object], enum: str) -> None:
    """Let two values of this enum be compared by overloads, too."""
    connection.execute(
        f"CREATE FUNCTION {SCHEMA}.operator_called({enum}, {enum}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
        f" $$ BEGIN RAISE EXCEPTION '{CALLED}: an operator on {enum}'; END $$".encode()
    )
    for name in ("=", "<>", "<", ">", "<=", ">="):
        connection.execute(
            f"CREATE OPERATOR {SCHEMA}.{name} (LEFTARG = {enum}, RIGHTARG = {enum},"
            f" FUNCTION = {SCHEMA}.operator_called)".encode()
        )


def _statements(script: str) -> list[str]:
    """The statements of a script in which only those within dollar quotes hold a semicolon."""
    parts, statement = script.split("$make$"), ""
    statements = list[str]()
    for number, part in enumerate(parts):
        if number % 2:
            statement += f"$make${part}$make$"
            continue
        *ended, rest = part.split(";\n")
        for text in ended:
            statements.append(statement + text)
            statement = ""
        statement += rest
    return [*statements, statement]
