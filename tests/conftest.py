"""One real PostgreSQL for the whole run; for each test a database of its own, most often copied from a template."""

from __future__ import annotations

import gc
import shutil
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from reaper.common.background_gc import gc_in_background_thread
from reaper.dev.postgres import PrivatePostgreSQL, temporary
from tests.support import examples, inspections, scratch
from tests.support import mariadb as mariadb_server
from tests.support.brokers import Broker, CeleryCluster, RedisServer, redis_server
from tests.support.databases import TemporaryDatabases
from tests.support.mariadb import MariaDB
from tests.support.protea import Protea
from tests.support.recent_values import RecentValues
from tests.support.worlds import World
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import place_id, places_where, postgresql_database, postgresql_world, world_on
from tests.support.worlds.vuls import VulsWorld

TEMPLATE = "protea_template"
_SERVERS = "postgresql", "mariadb"

LONG = (
    "system/test_host", "profile/test_shipped_profiles", "liveness/test_celery", "grants/test_least_privilege",
    "system/test_browser", "system/test_install", "system/test_vuls", "system/test_alerts", "daemon/test_systemd",
    "daemon/test_watchdog", "operations/test_purge", "system/test_manage", "system/test_packaging",
    "daemon/test_daemon", "daemon/test_reload", "web/api/test_openapi_conformance", "sweep/test_late_signs",
    "daemon/test_killed", "cli/test_clear", "web/guard/test_flood", "daemon/test_outage", "web/test_slow_source",
    "daemon/test_many_sources", "cli/test_main", "operations/test_close_interrupted", "dev/test_demo",
    "system/test_benchmark", "fence/test_installation", "web/api/test_supervisor", "fence/test_fence",
    "source/test_log_interleavings", "source/test_interleavings", "liveness/test_task_removal", "cli/test_reset_vuls",
    "sweep/test_ended_by_reaper", "sql_listing/test_manual_recipes", "web/ui/test_page",
    "scheduling/test_scheduled_purge",
    "sql_listing/test_sql_listing", "system/test_todays_tables", "grants/test_grants_postgresql",
    "sweep/test_database_restart", "sweep/test_refused_jobs", "staleness/test_rule_property", "staleness/test_clocks",
    "source/test_transitions", "source/test_duplicates",
)  # fmt: skip
"""The files that take longest go first: a worker that begins one of them when all others are done is waited for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="Try all of what is otherwise tried in part, for time.")
    parser.addoption("--systems", action="store_true", help="Install public job systems, and try only them.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: only with --thorough; something like it is tried always.")
    config.addinivalue_line("markers", "every_server: on both servers without --thorough, too.")
    config.addinivalue_line("markers", "systems: only with --systems; it installs a public job system.")
    _restore_ctrl_c_in_children()
    examples.thorough = bool(config.getoption("thorough"))
    # Workers find it in their environment.
    if folder := scratch.make():
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def _restore_ctrl_c_in_children() -> None:
    """Processes that tests start can be interrupted, even when this one ignores SIGINT.

    `nohup` and `&` in a script leave SIGINT ignored. A program that is started keeps an ignored signal ignored, but
    gets the default back for a signal that has a handler. So the signal gets a handler that does nothing: this process
    still ignores it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda _number, _frame: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    thorough, systems = config.getoption("thorough"), bool(config.getoption("systems"))

    waiting = set() if thorough else set(_out_of_turn(items))

    def is_tried(item: pytest.Item) -> bool:
        of_systems = item.get_closest_marker("systems") is not None
        waits = item in waiting or item.get_closest_marker("thorough")
        return of_systems is systems and (thorough or not waits)

    config.hook.pytest_deselected(items=[item for item in items if not is_tried(item)])
    items[:] = [item for item in items if is_tried(item)]
    items.sort(key=_long_first)


def _out_of_turn(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    """Tests that are alike on two servers take turns through their file: one runs on PostgreSQL, the next on MariaDB.

    With --thorough each runs on both. Those with the mark `every_server` always do, and those of the worlds of shipped
    profiles, which say themselves where they run.
    """
    tried = [item for item in items if not item.get_closest_marker("thorough")]
    on_both: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for item in tried:
        if (server := _server_of(item)) is not None and not item.get_closest_marker("every_server"):
            on_both[_function_of(item)].add(server)
    turns: Counter[Path] = Counter()
    chosen: dict[tuple[Path, str], str] = {}
    for function, servers in on_both.items():
        if servers == set(_SERVERS):
            chosen[function] = _SERVERS[turns[function[0]] % 2]
            turns[function[0]] += 1
    for item in tried:
        if (turn := chosen.get(_function_of(item))) is not None and _server_of(item) != turn:
            yield item


def _function_of(item: pytest.Item) -> tuple[Path, str]:
    return item.path, getattr(item, "originalname", item.name)


def _server_of(item: pytest.Item) -> str | None:
    """The server of a test that runs on one of two: the parameter that is its name."""
    callspec = getattr(item, "callspec", None)
    return next((value for value in callspec.params.values() if value in _SERVERS), None) if callspec else None


def _long_first(item: pytest.Item) -> int:
    name = str(item.path.relative_to(Path(__file__).parent).with_suffix(""))
    return LONG.index(name) if name in LONG else len(LONG)


@pytest.fixture(scope="session", autouse=True)
def _garbage_collected_in_background() -> Iterator[None]:
    """Tests sweep in several threads, as the daemon does, and drop many a source meanwhile."""
    # What pytest has made of thousands of tests stays until the end: no collection has to look at it again.
    gc.collect()
    gc.freeze()
    with gc_in_background_thread():
        yield
        # Not left for later: a finalizer that warns of something unclosed would disturb another test.
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _statements_kept() -> Iterator[None]:
    """Sources that share their statements do so from one test to the next, too: compiling takes half of a sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reaper.source.statements._in_use", RecentValues(200))
        yield


@pytest.fixture(scope="session", autouse=True)
def _inspections_forked() -> Iterator[None]:
    """Inspections of Celery's workers that this process begins do not import their libraries again each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", inspections.run)
        yield


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for everything."""
    return bool(request.config.getoption("thorough"))


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgreSQL]:
    """A private server that is thrown away afterwards; tests must leave it running."""
    # Nothing here outlives the run, so nothing needs to reach a disk; prepared transactions hold rows in one test.
    fast = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "5", "max_connections": "200"}
    with temporary(fast) as running:
        running.create_database(TEMPLATE)
        yield running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A private MariaDB server; tests must leave it running."""
    with mariadb_server.temporary() as running:
        yield running


@pytest.fixture(scope="session")
def databases(server: PrivatePostgreSQL) -> Iterator[TemporaryDatabases]:
    """Makes and drops the databases of single tests."""
    with closing(TemporaryDatabases(server)) as made:
        yield made


@pytest.fixture
def database(databases: TemporaryDatabases) -> Iterator[str]:
    """The URL of an empty database with the protea tables."""
    with databases.temporary(TEMPLATE) as url:
        yield url


@pytest.fixture
def protea(database: str) -> Iterator[Protea]:
    """A protea database with methods to make jobs and to read them."""
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        yield Protea(database, connection)


@pytest.fixture
def empty(databases: TemporaryDatabases) -> Iterator[PostgreSQLDatabase]:
    """A database without tables."""
    with postgresql_database(databases) as database:
        yield database


def _tried_elsewhere(world: type[World]) -> bool:
    """By tests/profile/test_shipped_profiles.py always, and by the tests here with --thorough."""
    return bool(world.tables_of) or world.action == "delete"


@pytest.fixture(params=places_where(repeats=_tried_elsewhere), ids=place_id)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every world, on every server that it can be on."""
    kind, where = request.param
    with world_on(request, kind, where) as made:
        yield made


@pytest.fixture
def short_wait_for_log(monkeypatch: pytest.MonkeyPatch, thorough: bool) -> None:
    """Sweeps of this process do not wait long for a log that a test keeps locked, unless there is time for that."""
    if thorough:
        return
    monkeypatch.setattr("reaper.source.event_log_lock._WAIT_MS", 50)
    monkeypatch.setattr("reaper.source.event_log_lock._LONG_WAIT_MS", 200)


@pytest.fixture
def vuls(databases: TemporaryDatabases) -> Iterator[VulsWorld]:
    """A vuls database with methods to make runs and schedules, and to read them."""
    with postgresql_world(databases, VulsWorld) as world:
        yield world


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, which may do with it what it likes."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def broker(redis: RedisServer) -> Broker:
    """What Celery's workers are on: Redis, unless a module tries others, too."""
    return redis


@pytest.fixture
def cluster(broker: Broker, tmp_path: Path) -> Iterator[CeleryCluster]:
    """Its workers end with the test."""
    made = CeleryCluster(broker, tmp_path)
    yield made
    made.close()
