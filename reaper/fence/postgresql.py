"""The fence on PostgreSQL: a trigger, and its function beside the table.

Limitation: where a server is older than 13, partitioned tables cannot have one; tables that inherit the old way each
need their own. A column that the trigger asks about cannot be dropped or retyped while it is there. A change that
another trigger makes, to a column which the statement itself does not set, is not seen.

Whether a write is late stands in the trigger's WHEN: its values are read once, when it is made, whatever the settings
of the sessions that fire it, and no column of it can go away unnoticed. The server takes the condition apart anew for
every statement; with the columns named, it leaves that for statements which set none of them, such as heartbeats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, String, bindparam, text

from reaper.errors import ReaperError
from reaper.fence.definition import Definition
from reaper.fence.postgresql_trigger import body, dollars, function_of, late, literal, name
from reaper.fence.state import FenceChange, FenceStatus, Script, State
from reaper.sql.tables import ProfileTables, reserved_alias, split_name

TRIGGER = reserved_alias("fence")
_MARK = "reaper fence "
_REPLACES_TRIGGERS = 14
_PARTITIONED_TRIGGERS = 13
_BEFORE_UPDATE_OF_A_ROW = 19

# The table's own function is looked for by the trigger first: the table may have been renamed since.
_LOOK = text("""
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, current_user::text AS role,
       has_schema_privilege(n.oid, 'CREATE') AS may_create, has_table_privilege(c.oid, 'TRIGGER') AS may_fire,
       current_setting('server_version_num')::int / 10000 AS version,
       t.oid IS NOT NULL AS there, t.tgenabled IN ('O', 'A') AS fires,
       t.tgtype = :type AND t.tgqual IS NOT NULL AND t.tgattr::text <> '' AS intact,
       p.proname AS function, m.nspname AS function_schema, p.prosrc AS body,
       obj_description(p.oid, 'pg_proc') AS comment, pg_has_role(p.proowner, 'USAGE') AS owns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = :trigger AND NOT t.tgisinternal
LEFT JOIN pg_proc p ON p.oid = coalesce(t.tgfoid, (SELECT f.oid FROM pg_proc f
    WHERE f.pronamespace = n.oid AND f.proname = :function AND f.pronargs = 0))
LEFT JOIN pg_namespace m ON m.oid = p.pronamespace
WHERE c.oid = to_regclass(:table)
""").bindparams(*(bindparam(name, type_=String) for name in ("trigger", "function", "table")))


class PostgreSQL:
    """See `reaper.fence.Fences`."""

    def __init__(self, schema: ProfileTables, definition: Definition) -> None:
        self._table = schema.profile.jobs.table
        self._late, self._body = late(definition), body(definition)
        self._kept = ", ".join(map(name, definition.kept))
        self._version = hashlib.sha256(f"{self._late}{self._body}".encode()).hexdigest()[:12]

    def look(self, connection: Connection) -> FenceStatus:
        schema, bare = split_name(self._table)
        table = name(schema, bare) if schema else name(bare)
        asked = {"table": table, "function": function_of(bare), "trigger": TRIGGER}
        row = connection.execute(_LOOK, {**asked, "type": _BEFORE_UPDATE_OF_A_ROW}).one_or_none()
        if row is None:
            raise ReaperError(f"there is no table {table}")
        if row.kind != "r" and (row.kind != "p" or row.version < _PARTITIONED_TRIGGERS):
            raise ReaperError(f"{table} cannot have a fence: {_why_not(row.kind)}")
        function = self._function(row)
        return FenceStatus(
            state=self._state(row),
            table=name(row.schema, row.name),
            role=row.role,
            install=FenceChange([*_opening(), *self._install(row, function)], list(_lacking(row))),
            # Who made the function may drop it, and the trigger with it; the trigger alone, only the table's owner.
            remove=FenceChange([*_opening(), f"DROP FUNCTION {function}() CASCADE"], list(_not_own(row))),
            script=Script("BEGIN;", ";", "COMMIT;"),
        )

    def _function(self, row: Row[Any]) -> str:
        return name(row.function_schema or row.schema, row.function or function_of(row.name))

    def _state(self, row: Row[Any]) -> State:
        if row.function is not None and not (row.comment or "").startswith(_MARK):
            return State.FOREIGN
        if not row.there:
            return State.ABSENT if row.function is None else State.OUTDATED
        if not row.fires:
            return State.DISABLED
        same = row.intact and row.body == self._body and row.comment.startswith(f"{_MARK}{self._version}:")
        return State.INSTALLED if same else State.OUTDATED

    def _install(self, row: Row[Any], function: str) -> Iterator[str]:
        table, replaces = name(row.schema, row.name), row.version >= _REPLACES_TRIGGERS
        if row.there and not replaces:
            yield f"DROP FUNCTION {function}() CASCADE"
        yield (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger\n"
            f"    LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS {dollars(self._body)}"
        )
        told = f"{_MARK}{self._version}: keeps a reaped job reaped when its old worker finishes late"
        yield f"COMMENT ON FUNCTION {function}() IS {literal(told)}"
        yield (
            f"CREATE {'OR REPLACE ' if replaces else ''}TRIGGER {name(TRIGGER)}\n"
            f"    BEFORE UPDATE OF {self._kept} ON {table} FOR EACH ROW\n"
            f"    WHEN ({self._late})\n    EXECUTE FUNCTION {function}()"
        )


def _opening() -> Iterator[str]:
    # Whoever wants to write queues up behind a CREATE TRIGGER that waits for a long transaction.
    yield "SET LOCAL lock_timeout = '2s'"
    yield "SET LOCAL search_path = pg_catalog, pg_temp"


def _lacking(row: Row[Any]) -> Iterator[str]:
    if not row.may_create:
        yield f"GRANT CREATE ON SCHEMA {name(row.schema)} TO {name(row.role)}"
    if not row.may_fire:
        yield f"GRANT TRIGGER ON TABLE {name(row.schema, row.name)} TO {name(row.role)}"
    yield from _not_own(row)


def _not_own(row: Row[Any]) -> Iterator[str]:
    if row.owns is False:
        yield f"ALTER FUNCTION {name(row.function_schema, row.function)}() OWNER TO {name(row.role)}"


def _why_not(kind: str) -> str:
    if kind == "p":
        return f"only PostgreSQL {_PARTITIONED_TRIGGERS} or newer lets a partitioned table have one"
    return "it is no table of its own; point the profile at the table behind it"
