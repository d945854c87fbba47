"""Which server answers: what distinguishes a restored, copied or replaced database from the one before."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

# Asked apart, before the functions are called: PostgreSQL checks EXECUTE even in the branch of a CASE that is not
# taken, and the error would end the transaction.
_POSTGRESQL_MAY = (
    "SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege(f, 'EXECUTE')) FROM (VALUES"
    " ('pg_catalog.pg_control_system()'), ('pg_catalog.pg_control_checkpoint()'),"
    " ('pg_catalog.pg_current_wal_flush_lsn()'), ('pg_catalog.pg_walfile_name(pg_lsn)')) AS needed(f)"
)
# The timeline is that of the log being written: the control file has a promoted standby's only after a checkpoint.
_POSTGRESQL = (
    "SELECT s.system_identifier,"
    " ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8))::bit(32)::int"
    " AS timeline,"
    " (SELECT d.oid::bigint FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())"
    " AS database_oid,"
    " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), '0/0')::bigint AS wal_position,"
    " pg_catalog.pg_wal_lsn_diff(c.checkpoint_lsn, '0/0')::bigint AS checkpoint_position"
    " FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c"
)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What no other PostgreSQL server has, and how far its write-ahead log reaches.

    A restored or copied server has the same system identifier. A restore to a point in time, and a failover, begin a
    new timeline. A plain copy of the files does not: its log ends earlier. Positions are in bytes: `wal_position` is
    the end of what is on the disk, `checkpoint_position` the last checkpoint, which a server makes whenever it stops,
    or starts after a crash.
    """

    system_identifier: str
    timeline: int
    database_oid: int
    wal_position: int
    checkpoint_position: int


def read_server_identity(connection: Connection) -> ServerIdentity | None:
    """Ask the server who it is, inside a transaction; None where that cannot be determined. Raises DBAPIError.

    MariaDB has nothing that would tell: `server_uid` is that of a machine and a port, `server_id` is a setting, and its
    log positions are those of each copy.
    """
    if connection.dialect.name != "postgresql" or not connection.execute(text(_POSTGRESQL_MAY)).scalar_one():
        return None
    row = connection.execute(text(_POSTGRESQL)).one()
    return ServerIdentity(
        str(row.system_identifier), row.timeline, row.database_oid, row.wal_position, row.checkpoint_position
    )


def database_address(engine: Engine) -> str:
    """Where the database is: host, port and name, without user, password and parameters."""
    url = engine.url
    hosts = url.host or url.query.get("host") or "localhost"
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database or url.username or ''}"
