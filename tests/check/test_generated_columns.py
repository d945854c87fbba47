"""A column that says whether a job runs may be generated from those that an action sets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.check import Level
from reaper.model import Outcome
from tests.support.checks import OwnTables, profile_of
from tests.support.worlds.servers import database_on


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        yield OwnTables(database)


def profile(running: str, fail: str) -> str:
    return f"""
jobs = {{ table = "t", key = "id", started = "started_at", {running} }}
actions.fail.set = {{ {fail} }}
"""


STATE = "CASE WHEN finished_at IS NULL THEN 'running' ELSE 'done' END"
TABLE = """CREATE TABLE t (id int PRIMARY KEY, started_at MOMENT NOT NULL, finished_at MOMENT NULL,
outcome varchar(20), exit_code int, {column})"""
BY_STATE, NOW = 'running = { column = "state", in = ["running"] }', 'finished_at = { is = "now" }'


def make(own: OwnTables, column: str) -> None:
    own.do(TABLE.format(column=column), "INSERT INTO t (id, started_at) VALUES (1, AGO)")


@pytest.mark.parametrize(
    ("column", "running", "fail"),
    [
        (f"state varchar(10) GENERATED ALWAYS AS ({STATE}) STORED", BY_STATE, NOW),
        (f"state varchar(10) GENERATED ALWAYS AS ({STATE}) VIRTUAL", BY_STATE, NOW),
        (
            "active int GENERATED ALWAYS AS (CASE WHEN outcome IS NULL THEN 1 END) STORED",
            'running.where = [{ column = "active", is = "not null" }]',
            'outcome = "lost"',
        ),
        pytest.param(
            "active int GENERATED ALWAYS AS (CASE WHEN exit_code IS NULL THEN 1 END) STORED",
            'running = { column = "active", in = [1] }',
            "exit_code = 9",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_state_that_is_generated_from_what_the_action_sets_follows_it(
    own: OwnTables, column: str, running: str, fail: str
) -> None:
    make(own, column)
    mapping = profile_of(profile(running, fail))
    assert [f.message for f in own.check(mapping) if "every sweep reads all" not in f.message] == []
    report = own.sweep(mapping)
    assert (report.outcome, report.error, report.failures, report.reaped) == (Outcome.DONE, None, (), 1)
    assert own.sweep(mapping).reaped == 0


def test_action_that_sets_the_generated_column_is_one_error_that_says_what_to_set(own: OwnTables) -> None:
    make(own, f"state varchar(10) GENERATED ALWAYS AS ({STATE}) STORED")
    mapping = profile_of(profile(BY_STATE, 'state = "done"'))
    [finding] = [finding for finding in own.check(mapping) if finding.level is Level.ERROR]
    assert finding.subject == "t.state" and "actions.fail.set" in finding.message
    assert "it is generated from finished_at; set that instead" in finding.message


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("state varchar(10) NOT NULL DEFAULT 'running'", "changes nothing that jobs.running asks about (state)"),
        (
            "state varchar(10) GENERATED ALWAYS AS (CASE WHEN exit_code IS NULL THEN 'running' END) STORED",
            "state is generated from exit_code",
        ),
    ],
)
def test_action_that_ends_no_job_is_an_error_of_check_and_of_every_sweep(
    own: OwnTables, column: str, says: str
) -> None:
    make(own, column)
    mapping = profile_of(profile(BY_STATE, NOW))
    [finding] = [finding for finding in own.check(mapping) if finding.level is Level.ERROR]
    assert finding.subject == "t" and says in finding.message
    report = own.sweep(mapping)
    assert report.reaped == 0 and own.rows("SELECT finished_at FROM t") == [(None,)]
    [failure] = report.failures
    assert "changes nothing that jobs.running asks about" in str(failure)


def test_state_that_only_a_trigger_can_change_is_a_warning_and_a_sweep_ends_the_job(own: OwnTables) -> None:
    make(own, "state varchar(10) NOT NULL DEFAULT 'running'")
    with own.database.with_trigger(
        "t", "UPDATE", "SET NEW.state = 'done'" if own.on_mariadb else "NEW.state := 'done'"
    ):
        mapping = profile_of(profile(BY_STATE, NOW))
        [finding] = [f for f in own.check(mapping) if "no index finds" not in f.message]
        assert finding.level is Level.WARNING and "only a trigger can change state" in finding.message
        assert own.sweep(mapping).reaped == 1


def test_job_whose_state_becomes_null_has_ended(own: OwnTables) -> None:
    make(own, "state varchar(10) NULL DEFAULT 'running'")
    mapping = profile_of(profile(BY_STATE, 'state = { is = "null" }'))
    report = own.sweep(mapping)
    assert (report.error, report.failures, report.reaped) == (None, (), 1)
    assert own.rows("SELECT state FROM t") == [(None,)]


def test_no_index_of_a_virtual_column_is_proposed_where_the_server_makes_none(own: OwnTables) -> None:
    make(own, f"state varchar(10) GENERATED ALWAYS AS ({STATE}) VIRTUAL")
    [finding] = own.check(profile_of(profile(BY_STATE, NOW)))
    assert "every sweep reads all of t" in finding.message
    if own.on_mariadb:
        assert finding.fix is not None
        own.do(finding.fix)
    else:
        assert finding.fix is None and "index on its expression" in finding.message
        own.do(f"CREATE INDEX ON t (({STATE}), started_at)")
    assert own.check(profile_of(profile(BY_STATE, NOW))) == []
