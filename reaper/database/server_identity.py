"""Which server answers, at what time of its own clock: what tells a restored or replaced database from the old one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

# Asked apart, before the functions are called: PostgreSQL checks EXECUTE even in the branch of a CASE that is not
# taken, and the error would end the transaction.
_POSTGRESQL_MAY = text(
    "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
    " AND has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')"
)
_POSTGRESQL = text(
    "SELECT pg_catalog.clock_timestamp() AS clock, s.system_identifier, c.timeline_id"
    " FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c"
)
_POSTGRESQL_CLOCK = text("SELECT pg_catalog.clock_timestamp() AS clock, NULL AS system_identifier, NULL AS timeline_id")
# `server_uuid` is MySQL's; MariaDB has `server_uid` (11.1 and later) and `server_id`. SHOW names only what there is.
_MARIADB_CLOCK = text("SELECT UTC_TIMESTAMP(6) AS clock")
_MARIADB = text("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id')")


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's clock in ISO 8601, its identifier, and its timeline; None for what the role may not read."""

    clock: str
    system_identifier: str | None
    timeline: int | None


def read_server_identity(connection: Connection) -> ServerIdentity:
    """Ask the server who it is, inside a transaction. Raises DBAPIError."""
    if connection.dialect.name != "postgresql":
        clock = connection.execute(_MARIADB_CLOCK).scalar_one()
        variables = {name.lower(): value for name, value in connection.execute(_MARIADB)}
        identifier = variables.get("server_uuid") or variables.get("server_uid") or variables.get("server_id")
        return ServerIdentity(f"{clock.isoformat()}+00:00", identifier, None)
    readable = bool(connection.execute(_POSTGRESQL_MAY).scalar_one())
    row = connection.execute(_POSTGRESQL if readable else _POSTGRESQL_CLOCK).one()
    identifier = None if row.system_identifier is None else str(row.system_identifier)
    return ServerIdentity(row.clock.isoformat(), identifier, row.timeline_id)


def database_address(engine: Engine) -> str:
    """Where the database is: host, port and name, without user, password and parameters."""
    url = engine.url
    hosts = url.host or url.query.get("host") or "localhost"
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database or url.username or ''}"
