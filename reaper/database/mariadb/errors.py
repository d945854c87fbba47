"""MariaDB's error numbers by kind. The server's are in the list of its manual; 2000 to 2999 are the driver's."""

from __future__ import annotations

UNAVAILABLE = frozenset(
    {
        *range(2000, 3000),  # the connection could not be made, or was lost
        1040,  # too many connections
        1203,  # too many connections of this user
        1226,  # more of a resource than this user is granted
        1129,  # the host is blocked after too many errors
        1130,  # the host may not connect
        1044,  # the user may not use the database
        1045,  # wrong password
        1698,  # wrong authentication
        1049,  # no such database
        1047,  # the node of a cluster is not ready
        1053,  # the server is shutting down
        1077,
        1079,
        1927,  # the connection was killed
        *range(1158, 1162),  # packets could not be read or written
        1290,  # the server is read only
        1792,  # the transaction is read only
        1836,  # the server is in read-only mode
        # A worker that cannot write cannot show a sign of life.
        1021,  # the disk is full
        1114,  # the table is full
    }
)
TRANSIENT = frozenset(
    {
        1213,  # deadlock
        1020,  # the row has changed since it was read
        1412,  # the table's definition has changed since the transaction began
        1180,  # the commit failed: in a cluster, another node changed the row
    }
)
TIMEOUT = frozenset(
    {
        1205,  # waited too long for a lock
        1317,  # interrupted
        1969,  # took longer than max_statement_time
        3024,
        1028,  # sorting was aborted
    }
)
DUPLICATE = frozenset({1062, 1586})
"""A unique key holds the value already."""

STATEMENT = frozenset(
    {
        1064,  # syntax
        1146,  # no such table
        1932,
        1051,
        1054,  # no such column
        1052,  # ambiguous
        1109,
        1055,
        1056,
        1111,
        1140,
        1142,  # a privilege is missing, on a table
        1143,  # on a column
        1227,  # for something else
        1370,  # on a function
        1305,  # no such function
        1235,  # not supported
        1193,  # no such variable
        1231,
        1238,
        1267,  # collations that cannot be compared
        1270,
        1271,
        1273,
        1115,  # no such character set
        1356,  # a view that is broken
        1419,
        1568,  # a transaction is under way
        1223,  # a lock is in the way
        1099,
        1100,
        1192,
        1206,  # too many locks
        1037,  # memory
        1038,
        1041,
        1436,
        1153,  # the statement is too long
        1194,  # the table is broken
        1195,
        1034,
        1035,
        1033,
        1030,  # the storage engine reports an error
        1296,
        1665,  # the binary log's format
        1666,
        4078,  # types that cannot be compared
        4079,
    }
)
