"""The fence on MariaDB: a trigger.

Limitation: it says nothing to the late worker, since MariaDB drops the warnings of a trigger. It works with the rights
of the user who installed it: when that user is dropped, no row of the table can be updated until it is removed.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, Row, String, bindparam, text

from reaper.errors import ReaperError
from reaper.fence.definition import REASONS, Definition, Null
from reaper.fence.state import FenceChange, FenceStatus, Script, State
from reaper.profile import Scalar
from reaper.sql.tables import ProfileTables, reserved_alias, split_name

_MARK = "/* reaper fence "
_LONGEST = 64
# Whoever wants to write queues up behind a CREATE TRIGGER that waits for a long transaction.
_PATIENCE = "SET SESSION lock_wait_timeout = 2"
# A user sees in these tables the privileges that are its own; those of a role are the role's.
_LOOK = text("""
SELECT t.table_schema AS `schema`, t.table_name AS name, t.table_type LIKE '%BASE TABLE%' AS is_table,
       current_user() AS role, g.trigger_name AS called, g.action_statement AS body,
       g.action_timing = 'BEFORE' AND g.event_manipulation = 'UPDATE' AND g.event_object_schema = t.table_schema
           AND g.event_object_table = t.table_name AS intact,
       EXISTS (SELECT 1 FROM information_schema.enabled_roles WHERE role_name IS NOT NULL)
       OR EXISTS (SELECT 1 FROM information_schema.user_privileges
           WHERE grantee = :grantee AND privilege_type = 'TRIGGER')
       OR EXISTS (SELECT 1 FROM information_schema.schema_privileges
           WHERE grantee = :grantee AND privilege_type = 'TRIGGER' AND t.table_schema LIKE table_schema)
       OR EXISTS (SELECT 1 FROM information_schema.table_privileges WHERE grantee = :grantee
           AND privilege_type = 'TRIGGER' AND table_schema = t.table_schema AND table_name = t.table_name) AS may_see
FROM information_schema.tables t
LEFT JOIN information_schema.triggers g ON g.trigger_schema = t.table_schema AND g.trigger_name = :trigger
WHERE t.table_schema = coalesce(:schema, database()) AND t.table_name = :table
""").bindparams(*(bindparam(name, type_=String) for name in ("schema", "table", "trigger", "grantee")))


class MariaDB:
    """See `reaper.fence.Fences`."""

    def __init__(self, schema: ProfileTables, definition: Definition) -> None:
        self._table = schema.profile.jobs.table
        kept = _kept(definition)
        # The server spells texts in a body its own way: whether it is this one, only a mark tells.
        self._mark = f"{_MARK}{hashlib.sha256(kept.encode()).hexdigest()[:12]}:"
        self._body = f"BEGIN\n    {self._mark} keeps a reaped job reaped when its old worker ends late */\n{kept}END"

    def look(self, connection: Connection) -> FenceStatus:
        schema, bare = split_name(self._table)
        grantee = _grantee(str(connection.execute(text("SELECT current_user()")).scalar_one()))
        asked = {"schema": schema, "table": bare, "trigger": called(bare), "grantee": grantee}
        row = connection.execute(_LOOK, asked).one_or_none()
        if row is None:
            raise ReaperError(f"there is no table {self._table}")
        table, trigger = _name(row.schema, row.name), _name(row.schema, called(bare))
        if not row.is_table:
            raise ReaperError(f"{table} cannot have a fence: it is no table of its own; point the profile at that")
        grant = f"GRANT TRIGGER ON TABLE {table} TO {grantee}"
        if not row.may_see:
            raise ReaperError(f"whether {table} has a fence is not shown to {grantee}, which needs: {grant}")
        return FenceStatus(
            state=self._state(row),
            table=table,
            role=row.role,
            install=FenceChange([_PATIENCE, f"CREATE OR REPLACE TRIGGER {trigger} {self._what(table)}"]),
            remove=FenceChange([_PATIENCE, f"DROP TRIGGER {trigger}"]),
            script=Script("DELIMITER //", " //", "DELIMITER ;"),
        )

    def _what(self, table: str) -> str:
        return f"BEFORE UPDATE ON {table} FOR EACH ROW\n{self._body}"

    def _state(self, row: Row[Any]) -> State:
        if row.called is None:
            return State.ABSENT
        if _MARK not in (row.body or ""):
            return State.FOREIGN
        return State.INSTALLED if row.intact and self._mark in row.body else State.OUTDATED


# --- the statement's parts -------------------------------------------------------------------------------------------


def _kept(wanted: Definition) -> str:
    """When a write is late: the row has been ended, what was written then would change, and nothing starts anew."""
    ended = [f"OLD.{_name(n)} {_holds(value)}" for n, value in wanted.ended.items()]
    ended += [f"OLD.{_name(n)} IN ({_listed(REASONS)})" for n in wanted.reasons]
    same = " AND ".join(_same(name) for name in wanted.kept)
    starts = [
        part
        for name in map(_name, wanted.started)
        for part in (f"NEW.{name} > OLD.{name}", f"(NEW.{name} IS NULL) <> (OLD.{name} IS NULL)")
    ]
    starts += [f"(NEW.{_name(n)} IS NOT NULL AND NOT ({_same(n)}))" for n in wanted.claim]
    if wanted.state is not None:
        starts.append(f"NEW.{_name(wanted.state)} IN ({_listed(wanted.again)})")
    anew = "\n            OR ".join(starts)
    parts = [*ended, f"NOT ({same})", f"(\n            {anew}\n        ) IS NOT TRUE", "NOT (@reaper_fence <=> 'off')"]
    keep = ",\n            ".join(f"NEW.{name} = OLD.{name}" for name in map(_name, wanted.kept))
    guard = "\n        AND ".join(parts)
    return f"    IF {guard}\n    THEN\n        SET {keep};\n    END IF;\n"


def _same(column: str) -> str:
    """To the byte: collations hold texts equal that are not."""
    return f"BINARY NEW.{_name(column)} <=> BINARY OLD.{_name(column)}"


def _holds(value: Scalar | Null) -> str:
    return f"IS {value.value}" if isinstance(value, Null) else f"= {_literal(value)}"


def _listed(values: tuple[Scalar, ...]) -> str:
    return ", ".join(map(_literal, values))


def _literal(value: Scalar) -> str:
    """The session's sql_mode, which the trigger keeps, lets a backslash escape."""
    if not isinstance(value, str):
        return repr(int(value) if isinstance(value, bool) else value)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _name(*parts: str) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def _grantee(user: str) -> str:
    name, _, host = user.rpartition("@")
    return f"'{name}'@'{host}'"


def called(table: str) -> str:
    """The name of a table's trigger; of a long one, its beginning and what tells it from others like it."""
    name = reserved_alias(f"fence_{table}")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(table.encode()).hexdigest()[:8]}"
