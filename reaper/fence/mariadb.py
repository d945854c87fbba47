"""The fence on MariaDB: a trigger.

Limitation: the late worker gets no warning, since MariaDB drops the warnings of triggers. The trigger runs with the
privileges of the user who installed it: once that user is dropped, no row of the table can be updated until the fence
is removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, String, bindparam, text

from reaper.errors import ReaperError
from reaper.fence.definition import FenceDefinition
from reaper.fence.late_write import LateWrite, fence_object_name
from reaper.fence.state import ClientScript, FenceChange, FenceState, FenceStatus
from reaper.profile import Scalar
from reaper.sql.mariadb_quoting import quote_literal, quote_name
from reaper.sql.tables import ProfileTables, split_name

_MARK = "/* reaper fence "
_LONGEST_NAME = 64
"""In characters."""

# Every writer queues up behind a CREATE TRIGGER that waits for a long transaction, so that it must not wait for long.
_LOCK_TIMEOUT = "SET SESSION lock_wait_timeout = 2"
# These tables show a user its own privileges, but not those of its roles: with a role, the role is trusted.
_STATUS = """
SELECT t.table_schema AS `schema`, t.table_name AS name, t.table_type LIKE '%BASE TABLE%' AS is_table,
       current_user() AS role, g.trigger_name AS trigger_name, g.action_statement AS body,
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
"""


_SWITCH_ON = "take @reaper_fence out of the server's init_connect"


class MariaDBFence:
    """See `reaper.fence.FenceBackend`."""

    def __init__(self, schema: ProfileTables, definition: FenceDefinition) -> None:
        self._table = schema.profile.jobs.table
        statements = _trigger_statements(definition)
        # The server stores texts of a body in its own spelling, so that only a mark shows whether it is this version.
        self._mark = f"{_MARK}{hashlib.sha256(statements.encode()).hexdigest()[:12]}:"
        self._body = (
            f"BEGIN\n    {self._mark} keeps a reaped job reaped when its old worker ends late */\n{statements}END"
        )

    def status(self, connection: Connection) -> FenceStatus:
        schema, bare = split_name(self._table)
        grantee = _grantee(str(connection.execute(text("SELECT current_user()")).scalar_one()))
        parameters = {"schema": schema, "table": bare, "trigger": trigger_name(bare), "grantee": grantee}
        query = text(_STATUS).bindparams(*(bindparam(name, type_=String) for name in parameters))
        row = connection.execute(query, parameters).one_or_none()
        if row is None:
            raise ReaperError(f"there is no table {self._table}")
        table, trigger = quote_name(row.schema, row.name), quote_name(row.schema, trigger_name(bare))
        if not row.is_table:
            raise ReaperError(
                f"{table} cannot have a fence: it is not a base table; name the table behind it in the profile"
            )
        if not row.may_see:
            grant = f"GRANT TRIGGER ON TABLE {table} TO {grantee}"
            raise ReaperError(f"{grantee} may not see whether {table} has a fence; it needs: {grant}")
        state = self._state(row)
        switched_off = [_SWITCH_ON] if state is FenceState.INSTALLED and _switched_off(connection) else []
        create = f"CREATE OR REPLACE TRIGGER {trigger} BEFORE UPDATE ON {table} FOR EACH ROW\n{self._body}"
        return FenceStatus(
            state=FenceState.DISABLED if switched_off else state,
            table=table,
            role=row.role,
            install=FenceChange() if state is FenceState.INSTALLED else FenceChange([_LOCK_TIMEOUT, create]),
            remove=FenceChange([_LOCK_TIMEOUT, f"DROP TRIGGER {trigger}"]),
            script=ClientScript("DELIMITER //", " //", "DELIMITER ;"),
            switched_off=switched_off,
        )

    def _state(self, row: Row[Any]) -> FenceState:
        if row.trigger_name is None:
            return FenceState.ABSENT
        if _MARK not in (row.body or ""):
            return FenceState.FOREIGN
        return FenceState.INSTALLED if row.intact and self._mark in row.body else FenceState.OUTDATED


# --- the text of the trigger -----------------------------------------------------------------------------------------


class MariaDBLateWrite(LateWrite):
    """The IF of the trigger."""

    switched_on = "NOT (@reaper_fence <=> 'off')"

    def name(self, column: str) -> str:
        return quote_name(column)

    def literal(self, value: Scalar) -> str:
        """The trigger keeps the sql_mode with which it is installed: texts mean the same in every session."""
        if not isinstance(value, str):
            return repr(int(value) if isinstance(value, bool) else value)
        return quote_literal(value)

    def reason(self, column: str) -> str:
        return f"OLD.{quote_name(column)}"

    def differ(self, columns: Sequence[str]) -> str:
        return f"NOT ({' AND '.join(map(self._same, columns))})"

    def claimed(self, column: str) -> str:
        return f"(NEW.{quote_name(column)} IS NOT NULL AND {self.differ([column])})"

    @staticmethod
    def _same(column: str) -> str:
        """Compares bytes, as some collations treat different texts as equal."""
        return f"BINARY NEW.{quote_name(column)} <=> BINARY OLD.{quote_name(column)}"


def _trigger_statements(definition: FenceDefinition) -> str:
    """Keeps what `fail` wrote when a write is late."""
    keep = ",\n            ".join(f"NEW.{name} = OLD.{name}" for name in map(quote_name, definition.kept_columns))
    return f"    IF {MariaDBLateWrite(definition).condition()}\n    THEN\n        SET {keep};\n    END IF;\n"


def _switched_off(connection: Connection) -> bool:
    """Whether sessions begin with a value of the fence's variable. Where it is not 'off', it has no purpose."""
    return "reaper_fence" in str(connection.execute(text("SELECT @@global.init_connect")).scalar_one()).casefold()


def _grantee(user: str) -> str:
    name, _, host = user.rpartition("@")
    return f"'{name}'@'{host}'"


def trigger_name(table: str) -> str:
    """The name of the trigger of a table's fence."""
    return fence_object_name(table, _LONGEST_NAME, lambda name, length: name[:length])
