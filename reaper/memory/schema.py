"""The schema of the state file, as the migrations that lead to it.

`PRAGMA user_version` counts the migrations that a file has had. A migration that has been released is never changed:
a new one is appended. A host's clock may be wrong: `recorded_epoch` serves only to throw old rows away.
"""

from __future__ import annotations

from sqlalchemy import Float, MetaData, func

_UNIX_EPOCH_JULIAN_DAY = 2_440_587.5
NOW = (func.julianday("now", type_=Float) - _UNIX_EPOCH_JULIAN_DAY) * 86_400.0
"""The state file's own clock, in seconds since 1970. It orders and ages the rows of the file, and nothing else."""

METADATA = MetaData()
"""The tables as the stores use them, which is what the last migration leaves."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE halt (
            id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
            halted_by TEXT NOT NULL,
            reason TEXT,
            persistent BOOLEAN NOT NULL
        )
        """,
        """
        CREATE TABLE contact (
            source TEXT NOT NULL,
            database TEXT NOT NULL,
            clock TEXT NOT NULL,
            system_identifier TEXT,
            timeline INTEGER,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, database)
        )
        """,
    ),
    (
        """
        CREATE TABLE reap_count (
            source TEXT NOT NULL,
            kind TEXT NOT NULL,
            reason TEXT NOT NULL,
            jobs INTEGER NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, kind, reason)
        )
        """,
    ),
    (
        """
        CREATE TABLE reaped_row (
            id INTEGER NOT NULL PRIMARY KEY,
            database TEXT NOT NULL,
            table_name TEXT NOT NULL,
            moment TEXT NOT NULL,
            recorded_epoch FLOAT NOT NULL
        )
        """,
        "CREATE INDEX reaped_row_of_table ON reaped_row (database, table_name, id)",
    ),
    (
        "ALTER TABLE contact ADD COLUMN database_oid INTEGER",
        "ALTER TABLE contact ADD COLUMN wal_position INTEGER",
        "ALTER TABLE contact ADD COLUMN server_started TEXT",
        "ALTER TABLE contact ADD COLUMN downtime TEXT",
    ),
    (
        """
        CREATE TABLE refused_job (
            source TEXT NOT NULL,
            job_key TEXT NOT NULL,
            error TEXT NOT NULL,
            refusals INTEGER NOT NULL,
            due_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, job_key)
        ) WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE future_sign (
            database TEXT NOT NULL,
            table_name TEXT NOT NULL,
            job TEXT NOT NULL,
            state TEXT NOT NULL,
            first_seen_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (database, table_name, job)
        )
        """,
    ),
    (
        """
        CREATE TABLE first_seen_job (
            database TEXT NOT NULL,
            source TEXT NOT NULL,
            job TEXT NOT NULL,
            state TEXT NOT NULL,
            first_seen_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (database, source, job)
        )
        """,
    ),
    (
        """
        CREATE TABLE local_column (
            database TEXT NOT NULL,
            source TEXT NOT NULL,
            job TEXT NOT NULL,
            state TEXT NOT NULL,
            first_seen_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (database, source, job)
        )
        """,
    ),
    (
        """
        CREATE TABLE reaped_job (
            id INTEGER NOT NULL PRIMARY KEY,
            database TEXT NOT NULL,
            table_name TEXT NOT NULL,
            job_key TEXT NOT NULL,
            evidence TEXT NOT NULL,
            reaped_at TEXT,
            recorded_epoch FLOAT NOT NULL
        )
        """,
        "CREATE INDEX reaped_job_by_key ON reaped_job (database, table_name, job_key)",
    ),
    (
        "ALTER TABLE reap_count RENAME TO reap_count_before",
        """
        CREATE TABLE reap_count (
            source TEXT NOT NULL,
            kind TEXT NOT NULL,
            reason TEXT NOT NULL,
            action TEXT NOT NULL,
            jobs INTEGER NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, kind, reason, action)
        )
        """,
        """
        INSERT INTO reap_count (source, kind, reason, action, jobs, recorded_epoch)
            SELECT source, kind, reason, 'fail', jobs, recorded_epoch FROM reap_count_before
        """,
        "DROP TABLE reap_count_before",
    ),
    (
        """
        CREATE TABLE command_reap (
            id INTEGER NOT NULL PRIMARY KEY,
            source TEXT NOT NULL,
            sweep_id TEXT NOT NULL,
            requested_by TEXT NOT NULL,
            job TEXT NOT NULL,
            recorded_epoch FLOAT NOT NULL
        )
        """,
    ),
    (
        """
        CREATE TABLE job_hold (
            source TEXT NOT NULL,
            job_key TEXT NOT NULL,
            until_epoch FLOAT NOT NULL,
            held_by TEXT NOT NULL,
            reason TEXT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, job_key)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE ended_lately (
            source TEXT NOT NULL,
            slot INTEGER NOT NULL,
            jobs INTEGER NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (source, slot)
        ) WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE worker_state (
            database TEXT NOT NULL,
            source TEXT NOT NULL,
            job TEXT NOT NULL,
            state TEXT NOT NULL,
            first_seen_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (database, source, job)
        )
        """,
    ),
    (
        """
        CREATE TABLE requeue_count (
            database TEXT NOT NULL,
            table_name TEXT NOT NULL,
            job TEXT NOT NULL,
            state TEXT NOT NULL,
            first_seen_epoch FLOAT NOT NULL,
            recorded_epoch FLOAT NOT NULL,
            PRIMARY KEY (database, table_name, job)
        )
        """,
    ),
)
