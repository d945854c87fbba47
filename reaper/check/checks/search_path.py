"""Checks where names are looked up on PostgreSQL, and who else may create something there.

The statements of the reaper look names up in `pg_catalog` alone (`reaper.database.postgresql.search_path`). Left are
the user's own SQL in a profile, the types of extensions, and the user's own triggers, defaults and constraints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.grants.missing import fired_triggers
from reaper.profile.user_sql import LookedUpName, UserSql, looked_up_names, user_sql
from reaper.sql.tables import split_name

_OWN = "pg_catalog"


def check_search_path(context: CheckContext) -> Iterator[Finding]:
    path = context.catalog.search_path(context.catalog.server.role)
    if path is None:
        return
    yield from _check_creators(context, path)
    yield from _check_absent_schemas(context)
    yield from _check_early_functions(context)
    yield from _check_user_sql(context, path)


# --- other roles -----------------------------------------------------------------------------------------------------


def _check_creators(context: CheckContext, path: Collection[str]) -> Iterator[Finding]:
    lookup_schemas = context.catalog.lookup_schemas
    identities = [table.identity for table in context.tables.values()]
    creators = context.catalog.creators([*lookup_schemas, *path], identities)
    for schema, roles in creators.items():
        who = f"roles that own none of the tables may CREATE in the schema {schema!r} ({listed(roles)})"
        fix = context.catalog.fixes.revoke_create(schema, roles)
        if schema in lookup_schemas:
            message = (
                f"{who}, and statements of sweeps look names up there, for the profile's `sql` or for types of "
                "extensions: a function or an operator of theirs would run with the reaper's rights"
            )
            yield error("server", message, fix)
        else:
            message = (
                f"{who}, which is on the search path of {context.role}: triggers, defaults and constraints that name "
                "things without a schema would call theirs, with the rights of the role that writes; the reaper's own "
                "statements look nothing up there"
            )
            yield warning("server", message, fix)


def _check_absent_schemas(context: CheckContext) -> Iterator[Finding]:
    """A bare name of a table leads into the first schema of the path that has a table of that name."""
    bare = {name: table for name, table in context.tables.items() if split_name(name)[0] is None}
    absent = context.catalog.absent_schemas([table.schema for table in bare.values()])
    roles = context.catalog.schema_creators([table.identity for table in context.tables.values()]) if absent else ()
    if roles:
        yield warning(
            "server",
            f"roles that own none of the tables may create schemas in the database ({listed(roles)}), and the search "
            f"path of {context.role} has {listed(map(repr, absent))}, which does not exist, before the schema of the "
            f"tables: once they have made it, {listed(sorted(bare))} can mean tables of theirs. A running daemon does "
            "not follow; its next start would. Or write the schema before the names in the profile",
            context.catalog.fixes.revoke_create_schemas(roles),
        )


def _check_early_functions(context: CheckContext) -> Iterator[Finding]:
    """Functions that the server reads or runs before a statement that writes can set the role's own path."""
    for name, table in sorted(context.tables.items()):
        if (need := context.required.get(name)) is None:
            continue
        for column, function in sorted(table.early_defaults.items()):
            if need.inserts and column not in need.insert:
                yield note(
                    f"{name}.{column}",
                    f"its default calls {function}, whose SQL the server reads while the search path is still pinned "
                    "to pg_catalog: names in it without a schema are not found",
                    context.catalog.fixes.set_path_of_function(function, context.catalog.own_path),
                )
        for trigger in {trigger.name: trigger for trigger in fired_triggers(need, table)}.values():
            if trigger.before_statement_without_path is not None:
                function = trigger.before_statement_without_path
                yield warning(
                    name,
                    f"the trigger {trigger} runs before a whole statement, when the search path is still pinned to "
                    f"pg_catalog: {function} does not find names without a schema",
                    context.catalog.fixes.set_path_of_function(function, context.catalog.own_path),
                )


# --- the user's own SQL ----------------------------------------------------------------------------------------------


def _check_user_sql(context: CheckContext, path: Collection[str]) -> Iterator[Finding]:
    names = {piece: list(dict.fromkeys(looked_up_names(piece.sql))) for piece in user_sql(context.profile)}
    schemas = context.catalog.schemas_of({name for found in names.values() for name in found})
    for piece, found in names.items():
        for name in found:
            yield from _check_name(context, piece, name, schemas.get(name, ()), path)


def _check_name(
    context: CheckContext, piece: UserSql, name: LookedUpName, schemas: Collection[str], path: Collection[str]
) -> Iterator[Finding]:
    table = context.profile.jobs.table
    looked_into = [schema for schema in context.catalog.lookup_schemas if schema in schemas]
    on_own_path = [schema for schema in path if schema in schemas]
    if looked_into:
        also = "also " if _OWN in schemas else ""
        yield warning(
            table,
            f"{piece.place}: the {name.kind} {name.name} is {also}found in the schema {looked_into[0]!r}, along "
            f"search_path: write {_qualified(name, looked_into[0])}, so that no other can take its place",
        )
    elif _OWN not in schemas and (elsewhere := on_own_path or sorted(schemas)):
        yield error(
            table,
            f"{piece.place}: the {name.kind} {name.name} is in the schema {elsewhere[0]!r}, and names without a "
            f"schema are looked up in pg_catalog: write {_qualified(name, elsewhere[0])}, or set "
            f'search_path = ["{elsewhere[0]}"] for the source or in the profile',
        )


def _qualified(name: LookedUpName, schema: str) -> str:
    return f"OPERATOR({schema}.{name.name})" if name.kind == "operator" else f"{schema}.{name.name}"
