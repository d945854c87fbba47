"""The fence on PostgreSQL: a trigger, and its function in the schema of the table.

Every session that writes to the table runs the function, and its owner can change it: a role that may create functions
in the schema must not be that owner, unless it may put a trigger on the table anyway.

Limitations: before PostgreSQL 13, a partitioned table cannot have one. A table that inherits (INHERITS) needs its own
fence. A column in the trigger's condition cannot be dropped or retyped while the fence is installed. A change by
another trigger is not seen if the statement itself does not set that column.

The condition of a late write is the trigger's WHEN. It is parsed once, when the trigger is created, so that settings of
the writing sessions do not change its meaning, and no column in it can be dropped unnoticed. The server prepares WHEN
again for every statement that sets one of the trigger's columns; other statements, such as heartbeats, skip that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, String, bindparam, text

from reaper.errors import ReaperError
from reaper.fence.definition import FenceDefinition
from reaper.fence.postgresql_trigger import (
    PostgreSQLLateWrite,
    dollar_quote,
    function_body,
    function_name,
    quote_literal,
    quote_name,
)
from reaper.fence.state import ClientScript, FenceChange, FenceState, FenceStatus
from reaper.sql.tables import ProfileTables, reserved_alias

TRIGGER = reserved_alias("fence")
_MARK = "reaper fence "
_CREATE_OR_REPLACE_TRIGGER_SINCE = 14
_PARTITIONED_TRIGGERS_SINCE = 13
_BEFORE_UPDATE_FOR_EACH_ROW = 19
"""`tgtype` of the trigger."""

# The function is found through the trigger first: its name does not fit once the table has been renamed.
_STATUS = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, current_user::text AS role,
       has_schema_privilege(n.oid, 'CREATE') AS may_create, has_table_privilege(c.oid, 'TRIGGER') AS may_create_trigger,
       current_setting('server_version_num')::int / 10000 AS version,
       t.oid IS NOT NULL AS has_trigger, t.tgenabled IN ('O', 'A') AS fires,
       t.tgtype = :type AND t.tgqual IS NOT NULL AND t.tgattr::text <> '' AS intact,
       p.proname AS function, m.nspname AS function_schema, p.prosrc AS body,
       NOT p.prosecdef AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] AS confined,
       obj_description(p.oid, 'pg_proc') AS comment, pg_has_role(p.proowner, 'USAGE') AS owns,
       pg_get_userbyid(p.proowner) = current_user OR has_table_privilege(p.proowner, c.oid, 'TRIGGER') AS of_our_own
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = :trigger AND NOT t.tgisinternal
LEFT JOIN pg_proc p ON p.oid = coalesce(t.tgfoid, (SELECT f.oid FROM pg_proc f
    WHERE f.pronamespace = n.oid AND f.proname = :function AND f.pronargs = 0))
LEFT JOIN pg_namespace m ON m.oid = p.pronamespace
WHERE c.oid = to_regclass(:table)
"""


_SWITCHED_OFF = """
SELECT CASE WHEN s.setdatabase <> 0 THEN d.datname END AS database, s.setrole <> 0 AS of_role, r.rolname AS role
FROM pg_db_role_setting s
JOIN pg_database d ON d.datname = current_database() AND s.setdatabase IN (0, d.oid)
LEFT JOIN pg_roles r ON r.oid = s.setrole
CROSS JOIN unnest(s.setconfig) AS setting (text)
WHERE lower(split_part(setting.text, '=', 1)) = 'reaper.fence' AND split_part(setting.text, '=', 2) = 'off'
ORDER BY 1 NULLS FIRST, 3 NULLS FIRST
"""
_SWITCHED_OFF_HERE = "SELECT pg_catalog.current_setting('reaper.fence', true) OPERATOR(pg_catalog.=) 'off'"


class PostgreSQLFence:
    """See `reaper.fence.FenceBackend`."""

    def __init__(self, schema: ProfileTables, definition: FenceDefinition) -> None:
        self._schema, self._table = schema.jobs.schema, schema.jobs.name
        self._condition, self._body = PostgreSQLLateWrite(definition).condition(), function_body(definition)
        self._kept = ", ".join(map(quote_name, definition.kept_columns))
        self._version = hashlib.sha256(f"{self._condition}{self._body}".encode()).hexdigest()[:12]

    def status(self, connection: Connection) -> FenceStatus:
        table = quote_name(*filter(None, (self._schema, self._table)))
        texts = {"table": table, "function": function_name(self._table), "trigger": TRIGGER}
        query = text(_STATUS).bindparams(*(bindparam(name, type_=String) for name in texts))
        row = connection.execute(query, {**texts, "type": _BEFORE_UPDATE_FOR_EACH_ROW}).one_or_none()
        if row is None:
            raise ReaperError(f"there is no table {table}")
        if row.kind != "r" and (row.kind != "p" or row.version < _PARTITIONED_TRIGGERS_SINCE):
            raise ReaperError(f"{table} cannot have a fence: {_why_no_fence(row.kind)}")
        function, state = self._function(row), self._state(row)
        switched_off = list(_switched_off(connection)) if state is FenceState.INSTALLED else []
        install = FenceChange([*_settings(), *self._install(row, function)], list(_missing_grants(row)))
        return FenceStatus(
            state=FenceState.DISABLED if switched_off else state,
            table=quote_name(row.schema, row.name),
            role=row.role,
            install=FenceChange() if state is FenceState.INSTALLED else install,
            # The owner of the function may drop it with the trigger; only the table's owner may drop that alone.
            remove=FenceChange([*_settings(), f"DROP FUNCTION {function}() CASCADE"], list(_missing_ownership(row))),
            script=ClientScript("BEGIN;", ";", "COMMIT;"),
            switched_off=switched_off,
        )

    def _function(self, row: Row[Any]) -> str:
        return quote_name(row.function_schema or row.schema, row.function or function_name(row.name))

    def _state(self, row: Row[Any]) -> FenceState:
        if row.function is not None and not (row.comment or "").startswith(_MARK):
            return FenceState.FOREIGN
        # Its owner can change the function at any time, and every session that writes to the table runs it.
        if row.function is not None and not row.of_our_own:
            return FenceState.OUTDATED if row.has_trigger else FenceState.FOREIGN
        if not row.has_trigger:
            return FenceState.ABSENT if row.function is None else FenceState.OUTDATED
        if not row.fires:
            return FenceState.DISABLED
        same = (
            row.intact
            and row.confined
            and row.body == self._body
            and row.comment.startswith(f"{_MARK}{self._version}:")
        )
        return FenceState.INSTALLED if same else FenceState.OUTDATED

    def _install(self, row: Row[Any], function: str) -> Iterator[str]:
        table, replaces = quote_name(row.schema, row.name), row.version >= _CREATE_OR_REPLACE_TRIGGER_SINCE
        keeps = row.function is not None and row.of_our_own and (replaces or not row.has_trigger)
        if row.function is not None and not keeps:
            yield f"DROP FUNCTION {function}() CASCADE"
        # Without OR REPLACE, which would keep the owner of a function that another role has created meanwhile.
        yield (
            f"CREATE {'OR REPLACE ' if keeps else ''}FUNCTION {function}() RETURNS trigger\n"
            f"    LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS {dollar_quote(self._body)}"
        )
        comment = f"{_MARK}{self._version}: keeps a reaped job reaped when its old worker finishes late"
        yield f"COMMENT ON FUNCTION {function}() IS {quote_literal(comment)}"
        yield (
            f"CREATE {'OR REPLACE ' if replaces else ''}TRIGGER {quote_name(TRIGGER)}\n"
            f"    BEFORE UPDATE OF {self._kept} ON {table} FOR EACH ROW\n"
            f"    WHEN ({self._condition})\n    EXECUTE FUNCTION {function}()"
        )


def _switched_off(connection: Connection) -> Iterator[str]:
    """What switches the fence on again for the sessions that begin with it off."""
    settings = connection.execute(text(_SWITCHED_OFF)).all()
    for database, of_role, role in settings:
        within = f" IN DATABASE {quote_name(database)}" if of_role and database is not None else ""
        owner = f"ROLE {quote_name(role) if of_role else 'ALL'}{within}"
        yield f"ALTER {owner if of_role or database is None else f'DATABASE {quote_name(database)}'} RESET reaper.fence"
    if not settings and connection.execute(text(_SWITCHED_OFF_HERE)).scalar_one():
        yield "take reaper.fence out of the server's configuration, or out of the options in the source's URL"


def _settings() -> Iterator[str]:
    # Every writer queues up behind a CREATE TRIGGER that waits for a long transaction, so it must not wait for long.
    yield "SET LOCAL lock_timeout = '2s'"
    yield "SET LOCAL search_path = pg_catalog, pg_temp"


def _missing_grants(row: Row[Any]) -> Iterator[str]:
    if not row.may_create:
        yield f"GRANT CREATE ON SCHEMA {quote_name(row.schema)} TO {quote_name(row.role)}"
    if not row.may_create_trigger:
        yield f"GRANT TRIGGER ON TABLE {quote_name(row.schema, row.name)} TO {quote_name(row.role)}"
    yield from _missing_ownership(row)


def _missing_ownership(row: Row[Any]) -> Iterator[str]:
    if row.owns is False:
        yield f"ALTER FUNCTION {quote_name(row.function_schema, row.function)}() OWNER TO {quote_name(row.role)}"


def _why_no_fence(kind: str) -> str:
    if kind == "p":
        return f"a partitioned table can have one on PostgreSQL {_PARTITIONED_TRIGGERS_SINCE} or later only"
    return "it is not a base table; name the table behind it in the profile"
