"""A private PostgreSQL from a wheel, for the demo, the tests and the first run.

Limitation: not for production. It trusts every connection to its socket, and only its own user (and root) can reach
the socket.
"""

from reaper.dev.postgres.binaries import PrivatePostgreSQLError
from reaper.dev.postgres.server import FIRST_RUN_DATABASE, PrivatePostgreSQL, create_tables, libpq, temporary

__all__ = ["FIRST_RUN_DATABASE", "PrivatePostgreSQL", "PrivatePostgreSQLError", "create_tables", "libpq", "temporary"]
