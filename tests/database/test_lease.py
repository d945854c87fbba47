"""The lease: one replica sweeps at a time, and another one when it is gone, also behind a pooler.

Every test runs against the server itself and through a pgbouncer that hands out server connections by transaction.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from reaper.database.lease import Lease, ttl_for
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import Outcome
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.protea import PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.waiting import wait_until

HOLDERS = """
    SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE locktype = 'advisory' AND granted AND d.datname = current_database()
      AND objid = 'job'::regclass
"""


# --- a pooler ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooler(server: PrivatePostgreSQL) -> Iterator[str]:
    """The URL of a pgbouncer in transaction mode, with at most four connections to a database."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed")
        pytest.skip("pgbouncer is not installed")
    # Only the server's own user gets at its socket; pgbouncer refuses to be root.
    owner = server.directory.stat()
    folder = Path(tempfile.mkdtemp(prefix="reaper-pooler-"))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""
        [databases]
        * = host={server.directory} port=5432 user=postgres
        [pgbouncer]
        listen_port = 6432
        unix_socket_dir = {folder}
        auth_type = any
        pool_mode = transaction
        default_pool_size = 4
        server_reset_query =
        """
    )
    os.chown(folder, owner.st_uid, owner.st_gid)
    root = os.geteuid() == 0
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            user=owner.st_uid if root else None,
            group=owner.st_gid if root else None,
            extra_groups=[] if root else None,
        )
    try:
        wait_until(lambda: (folder / ".s.PGSQL.6432").exists() or process.poll() is not None, "the pooler listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield str(folder)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture(params=["direct", "pooled"])
def url(request: pytest.FixtureRequest, protea: Protea) -> str:
    """The test's database, directly or through the pooler."""
    if request.param == "direct":
        return protea.url
    return through(request.getfixturevalue("pooler"), protea)


def through(pooler: str, protea: Protea) -> str:
    name = protea.connection.info.dbname
    return f"postgresql+psycopg://postgres@/{name}?host={quote(pooler)}&port=6432"


def replica(url: str, name: str = "main") -> Source:
    """After its first contact, at which it learns which table its name means."""
    source = Source(name, url, resolve("protea"), thresholds(), PATIENCE)
    with source.connect():
        return source


@pytest.fixture
def leases(url: str) -> Iterator[tuple[Lease, Lease]]:
    """The leases of two replicas that call their source by different names."""
    pair = replica(url).lease(60), replica(url, "twin").lease(60)
    yield pair
    for lease in pair:
        lease.release()


def holders(protea: Protea) -> list[int]:
    return [pid for (pid,) in protea.connection.execute(HOLDERS).fetchall()]


# --- the lease ---------------------------------------------------------------------------------------------------


def test_lease_is_held_by_one_of_two_and_renewed(protea: Protea, leases: tuple[Lease, Lease]) -> None:
    first, second = leases
    assert first.acquire() and not second.acquire()
    for _ in range(3):
        assert first.renew_if_due() and first.acquire()
        assert not second.renew_if_due() and not second.acquire()
        assert len(holders(protea)) == 1


def test_lease_that_is_renewed_is_never_free_for_a_moment(leases: tuple[Lease, Lease], thorough: bool) -> None:
    first, second = leases
    assert first.acquire()
    done = threading.Event()

    def contend() -> list[bool]:
        taken = []
        while not done.is_set():
            taken.append(second.acquire())
        return taken

    with ThreadPoolExecutor(1) as thread:
        contender = thread.submit(contend)
        try:
            renewed = [first.acquire() for _ in range(1000 if thorough else 150)]
        finally:
            done.set()
        taken = contender.result()
    assert all(renewed) and taken and not any(taken)


@pytest.mark.parametrize(("interval", "ttl"), [(1, 30), (10, 30), (60, 180)])
def test_lease_lasts_for_three_intervals_and_not_less_than_half_a_minute(interval: float, ttl: float) -> None:
    assert ttl_for(interval) == ttl


def test_released_lease_goes_to_the_other(protea: Protea, leases: tuple[Lease, Lease]) -> None:
    first, second = leases
    first.release()
    assert first.acquire()
    first.release()
    wait_until(second.acquire, "the second replica has the lease")
    assert not first.acquire()


def test_lease_that_the_server_ended_goes_to_the_first_replica_that_asks(
    protea: Protea, leases: tuple[Lease, Lease]
) -> None:
    first, second = leases
    assert first.acquire()
    [pid] = holders(protea)
    protea.connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert second.acquire()
    assert not first.acquire()
    [pid] = holders(protea)
    protea.connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert second.acquire()
    assert not first.acquire()


def test_lease_of_a_vanished_replica_ends_by_itself(protea: Protea, url: str) -> None:
    vanished, other = replica(url).lease(0.3), replica(url, "twin").lease(60)
    assert vanished.acquire()
    wait_until(other.acquire, "the other replica has the lease")
    assert not vanished.renew_if_due()
    other.release()


def test_lease_that_is_renewed_in_time_stays(protea: Protea, url: str) -> None:
    lease, other = replica(url).lease(1.5), replica(url, "twin").lease(60)
    assert lease.acquire()
    [pid] = holders(protea)
    since = protea.now()
    while (protea.now() - since).total_seconds() < 2:
        assert lease.renew_if_due()
        assert not other.acquire()
    if url == protea.url:
        assert holders(protea) == [pid]
    lease.release()


def test_lease_holds_no_snapshot_no_row_and_nothing_of_the_session(protea: Protea, leases: tuple[Lease, Lease]) -> None:
    assert leases[0].acquire() and leases[0].acquire()
    [pid] = holders(protea)

    def state() -> object:
        return protea.connection.execute(
            "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()

    wait_until(lambda: state() == ("idle in transaction", None, None), "the session is idle in its transaction", 5)
    locks = protea.connection.execute(
        "SELECT DISTINCT locktype FROM pg_locks WHERE pid = %s AND locktype <> 'virtualxid'", (pid,)
    ).fetchall()
    assert locks == [("advisory",)]


def test_lease_is_separate_for_each_job_table(protea: Protea) -> None:
    """With a schema per tenant there are several tables of one name in one database."""
    for tenant in ("a", "b"):
        protea.connection.execute(f"CREATE SCHEMA {tenant} CREATE TABLE job (id int)")
    tenants = [replica(f"{protea.url}&options=-csearch_path%3D{tenant}") for tenant in ("a", "b", "a", "public")]
    with ExitStack() as stack:
        leases = [tenant.lease(60) for tenant in tenants]
        for lease in leases:
            stack.callback(lease.release)
        assert [lease.acquire() for lease in leases] == [True, True, False, True]


def test_lease_is_separate_for_each_profile_of_a_table(protea: Protea) -> None:
    other = Source("other", protea.url, resolve("ours", {"ours": {"extends": "protea"}}), thresholds(), PATIENCE)
    mine, theirs = replica(protea.url).lease(60), other.lease(60)
    try:
        assert mine.acquire() and theirs.acquire()
    finally:
        mine.release()
        theirs.release()


# --- sweeps ------------------------------------------------------------------------------------------------------


def test_replica_without_the_lease_stands_by_and_records_contacts(
    protea: Protea, url: str, leases: tuple[Lease, Lease]
) -> None:
    first, second = leases
    assert first.acquire()
    job, downtime = protea.stale(), DowntimeTracker(0)
    before = protea.dump()
    report = protea.sweep(replica(url), lease=second, downtime=downtime)
    assert (report.outcome, report.census, report.error) == (Outcome.STANDBY, None, None)
    assert protea.dump() == before
    last_contact = downtime.now
    assert protea.sweep(replica(url), lease=second, downtime=downtime).outcome is Outcome.STANDBY
    assert downtime.now > last_contact
    first.release()
    wait_until(
        lambda: protea.sweep(replica(url), lease=second, downtime=downtime).outcome is Outcome.DONE,
        "the second replica sweeps",
    )
    assert protea.status(job) == "failed"
    assert not first.acquire()


def test_sweep_that_loses_its_lease_leaves_the_rest_to_the_other_replica(
    protea: Protea, url: str, leases: tuple[Lease, Lease]
) -> None:
    first, second = leases
    for _ in range(4):
        protea.stale()
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            first.release()
            wait_until(second.acquire, "the second replica has the lease")
        return False

    report = protea.sweep(replica(url), lease=first, batch_size=1, stopping=stopping)
    assert (report.outcome, report.reaped) == (Outcome.STANDBY, 1)
    assert list(protea.statuses().values()).count("failed") == 1
    assert protea.sweep(replica(url), lease=second).reaped == 3


def many(protea: Protea, count: int) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, %s)",
        (count,),
    )


@pytest.mark.parametrize("url", ["direct", pytest.param("pooled", marks=pytest.mark.thorough)], indirect=True)
def test_two_sweeps_at_once_without_a_lease_end_each_job_once(protea: Protea, url: str, thorough: bool) -> None:
    count = 600 if thorough else 200
    many(protea, count)
    together, recorders = threading.Barrier(2), [SweepRecorder(), SweepRecorder()]

    def run(recorder: SweepRecorder) -> None:
        source = replica(url)
        together.wait(10)
        report = protea.sweep(source, recorder=recorder, batch_size=7, breaker=Breaker(10**6, 1.0))
        assert report.outcome is Outcome.DONE, report.error

    threads = [threading.Thread(target=run, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = ({reaped.key for reaped in recorder.reaped_jobs} for recorder in recorders)
    assert not first & second
    assert len(first | second) == count
    events = protea.connection.execute(
        "SELECT count(*), count(DISTINCT job_id) FROM job_event WHERE event = 'job.timeout'"
    ).fetchone()
    assert events == (count, count)


# --- behind the pooler -------------------------------------------------------------------------------------------

SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "timezone",
    "datestyle",
    "extra_float_digits",
    "default_transaction_read_only",
)


def seen_by_others(pooler: str, protea: Protea) -> set[tuple[str, ...]]:
    """The settings on each connection that the pooler may use next."""
    query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    with ExitStack() as stack:
        url = through(pooler, protea).replace("+psycopg", "")
        clients = [stack.enter_context(psycopg.connect(url)) for _ in range(4)]
        # Their transactions are open at the same time, so that each has a connection to the server of its own.
        rows = [client.execute(f"{query}, pg_backend_pid()::text".encode()).fetchone() for client in clients]
    assert len({row[-1] for row in rows if row}) == 4
    return {row[:-1] for row in rows if row}


def test_sweep_leaves_no_setting_on_the_poolers_connections(protea: Protea, pooler: str) -> None:
    protea.connection.execute(f"ALTER DATABASE {protea.connection.info.dbname} SET timezone = 'Asia/Tokyo'".encode())
    before = seen_by_others(pooler, protea)
    assert len(before) == 1
    source = replica(through(pooler, protea))
    for reuse in range(3):
        lease = source.lease(60)
        many(protea, 30)
        report = protea.sweep(source, lease=lease, batch_size=4)
        assert (report.outcome, report.reaped) == (Outcome.DONE, 30), (reuse, report.error)
        lease.release()
        assert seen_by_others(pooler, protea) == before


def test_lease_stays_when_the_pooler_changes_the_connection(protea: Protea, pooler: str) -> None:
    url = through(pooler, protea)
    lease = replica(url).lease(60)
    lease.transaction_seconds = 0
    with (
        ExitStack() as stack,
        psycopg.connect(f"host={pooler} port=6432 dbname=pgbouncer user=postgres", autocommit=True) as console,
        ThreadPoolExecutor(2) as pool,
    ):
        clients = [stack.enter_context(psycopg.connect(url.replace("+psycopg", ""))) for _ in range(4)]
        *busy, queued = clients
        for client in busy:
            client.execute("SELECT 1")
        assert lease.acquire()
        [pid] = holders(protea)

        def waiting(count: int) -> bool:
            with console.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                pools = cursor.execute("SHOW POOLS").fetchall()
            mine = [row["cl_waiting"] for row in pools if row["database"] == protea.connection.info.dbname]
            return mine == [count]

        # All four connections are taken: a client that waits gets that of the lease when it is given back for a moment.
        waits = pool.submit(queued.execute, "SELECT 1")
        wait_until(lambda: waiting(1), "one session waits")
        renewed = pool.submit(lease.acquire)
        waits.result(10)
        assert queued.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
        busy[0].rollback()
        assert renewed.result(10)
        assert holders(protea) and holders(protea) != [pid]
        queued.rollback()
        other = replica(url, "twin").lease(60)
        assert not other.acquire()
    lease.release()


def test_sweep_leaves_no_prepared_statement_behind(protea: Protea, pooler: str) -> None:
    # One busy connection after the other makes the pooler hand the sweep's transactions to different ones.
    url = through(pooler, protea)
    many(protea, 40)
    clients = [psycopg.connect(url.replace("+psycopg", "")) for _ in range(2)]
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        client = clients[asked % 2]
        client.rollback()
        client.execute("SELECT 1")
        asked += 1
        return False

    report = protea.sweep(replica(url), batch_size=2, stopping=stopping)
    assert (report.outcome, report.reaped, asked) == (Outcome.DONE, 40, 20), report.error
    prepared = [client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() for client in clients]
    assert prepared == [(0,), (0,)]
    for client in clients:
        client.close()
