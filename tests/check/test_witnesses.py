"""`reaper check` on a profile without a witness: a warning, and the lines with columns that look like signs of life."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from reaper.check import Finding, Level, examine
from reaper.profile import Profile, resolve
from tests.support.checks import STALL, connected
from tests.support.worlds.servers import database_on

PROFILE: dict[str, Any] = {
    "time": "naive",
    "jobs": {
        "table": "g",
        "key": "id",
        "started": ["started"],
        "running": {"column": "state", "in": ["running"]},
    },
    "actions": {"fail": {"set": {"state": "failed", "updated_at": {"is": "now"}}}},
}
MOMENT = {"postgresql": "timestamp", "mariadb": "datetime"}


def found(request: pytest.FixtureRequest, where: str, columns: str, **changes: Any) -> list[Finding]:
    """What `check` says about witnesses of a table with these columns; `M` in them is a moment."""
    with database_on(request, where) as database:
        session = database.session(autocommit=True)
        moment = MOMENT[where]
        more = columns.replace(" M", f" {moment}")
        session.do(
            f"CREATE TABLE g (id int PRIMARY KEY, state varchar(20), started {moment}, updated_at {moment}{more})"
        )
        session.close()
        with connected(database.url) as connection:
            findings = examine(connection, resolve("g", {"g": {**PROFILE, **changes}}), STALL)
    return [finding for finding in findings if "no witness" in finding.message]


def with_fix(finding: Finding, **changes: Any) -> Profile:
    """The profile after its lines were replaced by the printed ones."""
    assert finding.fix is not None
    return resolve("g", {"g": {**PROFILE, **changes, **tomllib.loads(finding.fix)["profiles"]["g"]}})


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_columns_that_look_like_signs_of_life_are_proposed_with_the_lines(
    request: pytest.FixtureRequest, where: str
) -> None:
    columns = ", heartbeat_at M, progress int, worker_id int, lease_expires_at M, created M"
    [finding] = found(request, where, columns)
    assert (finding.level, finding.subject) == (Level.WARNING, "g")
    assert finding.message.startswith("the profile has no witness: a job that lives is ended as soon as it runs for")
    names = [f"{name} ({MOMENT[where]}" for name in ("heartbeat_at", "updated_at", "lease_expires_at")]
    assert [finding.message.find(name) for name in names] == sorted(finding.message.find(name) for name in names)
    assert all(name in finding.message for name in names) and "created" not in finding.message
    assert "progress" not in finding.message.replace("(worker, match", ""), "a percentage is no moment"
    assert 'match = { id = "worker_id" }' in finding.message
    witnesses = with_fix(finding).alive
    assert [(one.witness, one.column, one.deadline) for one in witnesses] == [
        ("heartbeat_at", "heartbeat_at", None),
        ("updated_at", "updated_at", None),
        ("lease_expires_at", None, "lease_expires_at"),
    ]


@pytest.mark.parametrize(
    "name", ["lastSeen", "LastHeartbeat", "pinged_at", "last_activity_at", "modifiedAt", "keepalive"]
)
def test_names_are_known_in_the_spellings_of_the_field(request: pytest.FixtureRequest, name: str) -> None:
    [finding] = found(request, "postgresql", f', "{name}" M')
    assert f"{name} (timestamp" in finding.message


def test_column_of_another_type_than_the_profile_s_moments_gets_its_own_format(request: pytest.FixtureRequest) -> None:
    [finding] = found(request, "postgresql", ", beat_at timestamptz")
    profile = with_fix(finding)
    assert profile.alive[0].column == "beat_at"
    assert profile.said_time("g", "beat_at").format.value == "timestamptz"


def test_table_without_any_such_column_gets_the_warning_and_no_lines(request: pytest.FixtureRequest) -> None:
    time: dict[str, Any] = {"actions": {"fail": {"set": {"state": "failed"}}}}
    jobs = {**PROFILE["jobs"], "started": ["started", "updated_at"]}
    [finding] = found(request, "postgresql", ", note text, priority int", jobs=jobs, **time)
    assert finding.fix is None and "let workers write one, or make the timeout longer" in finding.message


def test_profile_with_a_witness_gets_no_warning(request: pytest.FixtureRequest) -> None:
    alive = [{"witness": "row", "column": "updated_at"}]
    assert found(request, "postgresql", ", heartbeat_at M", alive=alive) == []


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_worker_is_checked_and_corrected_like_other_rows(request: pytest.FixtureRequest, where: str) -> None:
    worker = {"table": "workr", "match": {"idd": "worker_id"}, "at": "heart", "name": "hosst", "gone_after": "3m"}
    conditions = [{"column": "statee", "in": ["up"]}]
    alive = [{"witness": "worker", "worker": {**worker, "where": conditions}}]
    profile = resolve("g", {"g": {**PROFILE, "alive": alive}})
    with database_on(request, where) as database:
        session, moment = database.session(autocommit=True), MOMENT[where]
        session.do(
            f"CREATE TABLE g (id int PRIMARY KEY, state varchar(20), started {moment}, updated_at {moment},"
            " worker_id int)"
        )
        session.do(f"CREATE TABLE worker (id int, host varchar(20), state varchar(20), heard {moment})")
        session.close()
        with connected(database.url) as connection:
            [missing] = [f for f in examine(connection, profile, STALL) if f.level is Level.ERROR]
            table = with_fix(missing, alive=alive)
            errors = [f for f in examine(connection, table, STALL) if f.level is Level.ERROR]
            mended = with_fix(errors[0], alive=alive)
            rest = examine(connection, mended, STALL)
    assert (missing.subject, missing.message) == ("workr", "no such table; did you mean 'worker'?")
    assert {f.subject for f in errors} == {f"worker.{name}" for name in ("idd", "heart", "hosst", "statee")}
    assert mended.worker is not None and mended.worker.match == {"id": "worker_id"}
    assert mended.worker.gone_after == 180
    assert [f.message for f in rest if "foreign key" in f.message] == [], "a worker is no row of the job"
    [index] = [f for f in rest if f.subject == "worker" and "index" in f.message]
    assert "the worker of each old job is searched" in index.message
