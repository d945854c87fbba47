"""SQL that works on every database: expressions, types, conditions, and a profile's tables.

Importing the package registers how PostgreSQL and MariaDB write each expression of `reaper.sql.expressions`.
"""

from reaper.sql import mariadb, postgresql

__all__ = ["mariadb", "postgresql"]
