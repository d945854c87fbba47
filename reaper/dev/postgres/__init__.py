"""A private PostgreSQL from a wheel: for the demo, the tests and the first run.

Limitation: no server for production. It trusts whoever reaches its socket, and lets nobody but its own user
(and root) reach it.
"""

from reaper.dev.postgres.binaries import EmbeddedError
from reaper.dev.postgres.server import FIRST_RUN_DATABASE, Embedded, create_tables, libpq, temporary

__all__ = ["FIRST_RUN_DATABASE", "Embedded", "EmbeddedError", "create_tables", "libpq", "temporary"]
