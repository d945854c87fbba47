"""Keys of tables with partitions, and unique keys that serve as indexes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.check import Level
from tests.support.checks import OwnTables, profile_of
from tests.support.worlds.servers import database_on

COLUMNS = "id int NOT NULL, state varchar(9) NOT NULL, region int NOT NULL, started_at MOMENT NOT NULL"
PROFILE = """
jobs = {{ table = "t", key = {key}, started = "started_at", running = {{ column = "state", in = ["on"] }} }}
actions.fail.set.state = "off"
{more}
"""


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        yield OwnTables(database)


def partition(own: OwnTables, by: str, unique: str = "") -> None:
    columns = f"{COLUMNS}{unique}"
    values = {"state": ("'on'", "'off'"), "region": ("1", "2")}[by]
    if own.on_mariadb:
        parts = ", ".join(f"PARTITION p{n} VALUES IN ({value})" for n, value in enumerate(values))
        own.do(f"CREATE TABLE t ({columns}) PARTITION BY LIST COLUMNS ({by}) ({parts})")
    else:
        own.do(f"CREATE TABLE t ({columns}) PARTITION BY LIST ({by})")
        own.do(*(f"CREATE TABLE t{n} PARTITION OF t FOR VALUES IN ({value})" for n, value in enumerate(values)))
    own.do("CREATE INDEX t_state ON t (state, started_at)", "INSERT INTO t VALUES (1, 'on', 1, AGO)")


def test_key_of_a_table_whose_partition_the_transition_changes_has_no_remedy_and_sweeps_work(own: OwnTables) -> None:
    partition(own, "state")
    mapping = profile_of(PROFILE.format(key='"id"', more=""))
    [finding] = own.check(mapping)
    assert (finding.level, finding.subject, finding.fix) == (Level.WARNING, "t", None)
    assert "partitioned by state, which a unique key has to include, and an action changes" in finding.message
    assert own.sweep(mapping).reaped == 1
    assert own.rows("SELECT state FROM t") == [("off",)]


def test_key_of_a_table_with_partitions_gets_a_remedy_that_works(own: OwnTables) -> None:
    partition(own, "region")
    [finding] = own.check(profile_of(PROFILE.format(key='"id"', more="")))
    assert finding.level is Level.ERROR and finding.message.endswith('jobs.key = ["id", "region"]')
    assert finding.fix is not None
    own.do(finding.fix)
    assert own.check(profile_of(PROFILE.format(key='["id", "region"]', more=""))) == []


def test_unique_key_that_exists_is_only_to_be_named(own: OwnTables) -> None:
    partition(own, "region", ", UNIQUE (id, region)")
    [finding] = own.check(profile_of(PROFILE.format(key='"id"', more="")))
    assert finding.fix is None and finding.message.endswith('jobs.key = ["id", "region"]')


def test_no_index_is_proposed_where_a_unique_key_finds_the_row(own: OwnTables) -> None:
    own.do(
        f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (id))",
        "CREATE INDEX t_state ON t (state, started_at)",
        "CREATE TABLE beat (job int PRIMARY KEY, at MOMENT, FOREIGN KEY (job) REFERENCES t (id))",
    )
    more = 'alive = [{ witness = "beat", events = { table = "beat", match = { job = "id" }, at = "at" } }]'
    assert not [f for f in own.all_findings(profile_of(PROFILE.format(key='"id"', more=more))) if "index" in f.message]
