"""Errors of a real MariaDB: what each means for a sweep."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify
from reaper.database.timeouts import Timeouts
from reaper.profile import resolve
from reaper.source import Source
from tests.database.mariadb_protea import MariaDBProtea, error_of, holding
from tests.support.protea import PATIENCE, thresholds


def test_errors_are_classified_by_their_numbers(db: MariaDBProtea) -> None:
    job = db.job()
    db.run("CREATE TABLE once (id INT PRIMARY KEY, n TINYINT CHECK (n > 0))")
    db.run("INSERT INTO once VALUES (1, 1)")
    db.run(
        "CREATE TRIGGER careful BEFORE UPDATE ON job FOR EACH ROW"
        " BEGIN IF NEW.operation = 'no' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF; END"
    )
    for statement, expected in {
        "SELECT nothing FROM job": ErrorKind.STATEMENT,
        "SELECT * FROM nowhere": ErrorKind.STATEMENT,
        "SELEC 1": ErrorKind.STATEMENT,
        "INSERT INTO once VALUES (1, 2)": ErrorKind.DUPLICATE,
        "INSERT INTO once VALUES (2, 0)": ErrorKind.ROW,
        "INSERT INTO once VALUES (2, 1000)": ErrorKind.ROW,
        "INSERT INTO job_event (job_id, event) VALUES ('none', 'x')": ErrorKind.ROW,
        f"UPDATE job SET status = 'bogus' WHERE id = '{job}'": ErrorKind.ROW,
        "UPDATE job SET operation = 'no'": ErrorKind.ROW,
        "UPDATE job SET started_at = 'yesterday'": ErrorKind.ROW,
    }.items():
        assert error_of(db, statement)[0] is expected, statement
    assert error_of(db, "UPDATE job SET operation = 'no'")[1] == "not this one"
    assert error_of(db, "UPDATE job SET operation = 'x'", read_only=True)[0] is ErrorKind.UNAVAILABLE


def test_missing_privilege_is_an_error_of_the_statement(db: MariaDBProtea) -> None:
    db.run("CREATE USER reader@localhost")
    try:
        db.run("GRANT SELECT ON job TO reader@localhost")
        source = Source("main", db.server.url(db.name, "reader"), resolve("protea"), thresholds(), PATIENCE)
        kind, said = error_of(db, "UPDATE job SET status = 'failed'", source=source)
        assert kind is ErrorKind.STATEMENT
        assert "UPDATE command denied" in said
        assert error_of(db, "SELECT * FROM job_event", source=source)[0] is ErrorKind.STATEMENT
    finally:
        db.run("DROP USER reader@localhost")


def test_statement_that_takes_too_long_is_a_timeout(db: MariaDBProtea) -> None:
    source = db.source(timeouts=Timeouts(statement=0.3, connect=5))
    assert (
        error_of(db, "SELECT SLEEP(20) FROM job_event UNION SELECT BENCHMARK(1000000000, MD5('x'))", source=source)[0]
        is ErrorKind.TIMEOUT
    )


def test_lock_wait_that_takes_too_long_is_a_timeout(db: MariaDBProtea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reaper.database.mariadb.LOCK_SECONDS", 1)
    db.job()
    with holding(db, "SELECT * FROM job FOR UPDATE"):
        assert error_of(db, "UPDATE job SET operation = 'x'")[0] is ErrorKind.TIMEOUT
    with holding(db, "SELECT * FROM job"):
        assert error_of(db, "ALTER TABLE job ADD COLUMN more INT")[0] is ErrorKind.TIMEOUT


def test_killed_connection_means_unavailable(db: MariaDBProtea) -> None:
    source = db.source()
    with source.connect() as connection, pytest.raises(DBAPIError) as raised, source.transaction(connection):
        [number] = connection.execute(text("SELECT CONNECTION_ID()")).scalars()
        db.run(f"KILL {number}")
        connection.execute(text("SELECT 1"))
    assert classify(raised.value) is ErrorKind.UNAVAILABLE


def test_deadlock_is_transient(db: MariaDBProtea) -> None:
    one, two = db.job(), db.job()
    source, kinds = db.source(), list[ErrorKind]()
    update = "UPDATE job SET operation = %s WHERE id = %s"

    def other(first: threading.Event) -> None:
        with db.server.connect(db.name) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(update, ("theirs", two))
            # The transaction that has written less is the one that the server rolls back.
            cursor.execute("INSERT INTO job_event (job_id, event) SELECT %s, 'x' FROM seq_1_to_500", (two,))
            first.set()
            cursor.execute(update, ("theirs", one))
            cursor.execute("ROLLBACK")

    first = threading.Event()
    with source.connect() as connection:
        try:
            with source.transaction(connection):
                connection.exec_driver_sql(update, ("mine", one))
                thread = threading.Thread(target=other, args=(first,))
                thread.start()
                assert first.wait(10)
                connection.exec_driver_sql(update, ("mine", two))
        except DBAPIError as error:
            kinds.append(classify(error))
        thread.join(30)
    assert kinds == [ErrorKind.TRANSIENT]
