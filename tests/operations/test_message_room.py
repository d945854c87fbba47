"""An operator's message that a column has no room for is refused before anything is written, or cut by the profile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.common.reasons import MAX_LENGTH
from reaper.errors import MessageTooLong
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.reset import ResetTarget, plan
from reaper.staleness.downtime import DowntimeTracker
from tests.support.checks import OwnTables, profile_of
from tests.support.protea import SweepRecorder
from tests.support.worlds.servers import database_on

PROFILE = """
jobs = {{ table = "t", key = "id", started = "started_at", running = {{ column = "state", in = ["on"] }} }}
attempts = {{ column = "tries", limit = 3 }}
actions.fail.set = {{ state = "off", out_ = {{ first = [{value}, "none"] }} }}
actions.complete.set = {{ state = "done" }}
actions.requeue.set = {{ state = "new", note = {{ is = "message" }} }}
"""
MESSAGE = '{ is = "message" }'


@pytest.fixture(scope="module", params=["postgresql", pytest.param("mariadb", marks=pytest.mark.thorough)])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        tables = OwnTables(database)
        tables.do(
            "CREATE TABLE t (id int PRIMARY KEY, state varchar(9) NOT NULL, started_at MOMENT NOT NULL, "
            "tries int NOT NULL, out_ varchar(512), note varchar(60))"
        )
        yield tables


@pytest.fixture
def job(own: OwnTables) -> tuple[str, ...]:
    own.do("DELETE FROM t", "INSERT INTO t (id, state, started_at, tries) VALUES (1, 'on', AGO, 0)")
    return ("1",)


def end(own: OwnTables, job: tuple[str, ...], reason: str, action: str = "fail", value: str = MESSAGE) -> str:
    """Ends the job, and returns the state that it has then."""
    source = own.source(profile_of(PROFILE.format(value=value)))
    decision = ManualEnd("ann@host", "host", reason, action)
    fail(source, DowntimeTracker(0), job, decision, SweepRecorder())
    return str(own.rows("SELECT state FROM t")[0][0])


@pytest.mark.parametrize(
    ("action", "length", "column", "excess"),
    [("fail", MAX_LENGTH, "t.out_", 35), ("requeue_else_fail", 30, "t.note", 21), ("requeue", 30, "t.note", 11)],
)
def test_message_without_room_is_refused_and_one_that_fits_exactly_is_written(
    own: OwnTables, job: tuple[str, ...], action: str, length: int, column: str, excess: int
) -> None:
    with pytest.raises(MessageTooLong, match=rf"{column} holds .* nothing was changed.* by {excess},"):
        end(own, job, "x" * length, action)
    assert own.rows("SELECT state FROM t") == [("on",)]
    assert end(own, job, "x" * (length - excess), action) != "on"


def test_message_is_cut_where_the_profile_says_so(own: OwnTables, job: tuple[str, ...]) -> None:
    assert end(own, job, "x" * MAX_LENGTH, value='{ is = "message", most = 512 }') == "off"
    assert own.rows("SELECT length(out_) FROM t") == [(512,)]


def test_action_that_writes_no_message_takes_every_reason(own: OwnTables, job: tuple[str, ...]) -> None:
    assert end(own, job, "x" * MAX_LENGTH, "complete") == "done"


def test_reset_refuses_before_it_counts(own: OwnTables, job: tuple[str, ...]) -> None:
    source = own.source(profile_of(PROFILE.format(value=MESSAGE)))
    target, decision = ResetTarget(source, source), ManualEnd("ann@host", "host", "x" * MAX_LENGTH)
    with pytest.raises(MessageTooLong), plan(target, DowntimeTracker(0), 10, decision):
        pass
