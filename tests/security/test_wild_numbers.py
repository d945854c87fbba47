"""Numbers that are no moment and no duration, in one job's row, delay no other job, and end no job that may live.

A worker that writes nanoseconds where milliseconds are meant, a damaged row, or a hostile one: out of every calendar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from reaper.model import Outcome
from reaper.profile import Profile
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on, mostly_on

ENDED, LEFT = "dead", "working"
HUGE = {
    "postgresql": {
        "bigint": ["9223372036854775807"],
        "double precision": ["1e308", "'Infinity'"],
        "numeric": ["1e400"],
    },
    "mariadb": {"bigint unsigned": ["18446744073709551615"], "double": ["1e308"], "decimal(65, 0)": ["9" * 64]},
}
"""As a moment later than all others; as a timeout longer than all others."""
NEGATIVE = {
    "postgresql": {"bigint": ["-9223372036854775808"], "double precision": ["-1e308", "'-Infinity'"]},
    "mariadb": {"bigint": ["-9223372036854775808"], "double": ["-1e308"]},
}
TINY = {"postgresql": {"double precision": ["1e-308", "5e-324"]}, "mariadb": {"double": ["1e-308"]}}
NO_NUMBER = {"postgresql": {"double precision": ["'NaN'"], "numeric": ["'NaN'"]}, "mariadb": {}}


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def types_of(
    tasks: Tasks, *groups: Mapping[str, Mapping[str, list[str]]], unit: int = 1
) -> Iterator[tuple[str, list[str]]]:
    """The values of these groups on this server, by the type of the columns; whole numbers alone for milliseconds."""
    server = "mariadb" if tasks.mariadb else "postgresql"
    for group in groups:
        for column_type, values in group[server].items():
            if unit == 1 or "int" in column_type:
                yield column_type, values


def with_columns_of(tasks: Tasks, column_type: str) -> None:
    """Stale tasks whose moments are epochs of this type: 1, and 2, whose row is to have a wild number."""
    for table in ("task_part", "task_log", "task"):
        tasks.session.do(f"DROP TABLE IF EXISTS {table}")
    numbers = ", ".join(f"{name} {column_type}" for name in ("started", "made", "beat", "due", "run_limit"))
    tasks.session.do(
        f"CREATE TABLE task (id integer PRIMARY KEY, kind varchar(20), state varchar(20), note text, tries integer, "
        f"{numbers})"
    )
    document = "longtext" if tasks.mariadb else "jsonb"
    tasks.session.do(
        f"CREATE TABLE task_log (task_id integer, what varchar(20), said {document}, tries integer)",
    )


def fill(tasks: Tasks, unit: int) -> None:
    now = "unix_timestamp()" if tasks.mariadb else "extract(epoch FROM now())"
    tasks.session.do("DELETE FROM task_log")
    tasks.session.do("DELETE FROM task")
    for number in (1, 2):
        started, beat = f"({now} - 40000) * {unit}", f"({now} - 30000) * {unit}"
        tasks.session.do(
            "INSERT INTO task (id, kind, state, started, made, beat, due)"
            f" VALUES ({number}, 'k', 'working', {started}, {started}, {beat}, {beat})"
        )


def epochs(unit: int, **changes: Any) -> Profile:
    return mapped(time="epoch ms" if unit == 1000 else "epoch s", **changes)


def ended(tasks: Tasks, profile: Profile) -> str:
    """What a sweep makes of task 2. All forms of the rule say the same before, and the other task always ends."""
    source = tasks.source(profile)
    verdicts = tasks.verdicts(source)
    report = tasks.sweep(source)
    source.close()
    assert (report.outcome, report.error, report.failures) == (Outcome.DONE, None, ())
    states = tasks.states()
    assert states["1"] == ENDED
    assert {key for key, verdict in verdicts.items() if verdict.value == "stale"} == {
        key for key, state in states.items() if state == ENDED
    }
    return states["2"]


@pytest.mark.parametrize("unit", [1, pytest.param(1000, marks=pytest.mark.thorough)])
def test_sign_of_life_out_of_all_calendars_delays_no_other_job(tasks: Tasks, unit: int) -> None:
    witnesses = {
        "beat": {"witness": "heartbeat", "column": "beat"},
        "due": {"witness": "deadline", "deadline": "due"},
    }
    for expected, groups in ((LEFT, (HUGE,)), (ENDED, (NEGATIVE, NO_NUMBER))):
        for column_type, values in types_of(tasks, *groups, unit=unit):
            with_columns_of(tasks, column_type)
            for value in values:
                for column, witness in witnesses.items():
                    fill(tasks, unit)
                    tasks.session.do(f"UPDATE task SET {column} = {value} WHERE id = 2")
                    became = ended(tasks, epochs(unit, alive=[witness]))
                    assert became == expected, (column_type, value, column)


@pytest.mark.parametrize("unit", [1, 1000])
def test_start_out_of_all_calendars_is_none_or_to_come(tasks: Tasks, unit: int) -> None:
    for later, groups in ((True, (HUGE,)), (False, (NEGATIVE, NO_NUMBER))):
        for column_type, values in types_of(tasks, *groups, unit=unit):
            with_columns_of(tasks, column_type)
            for value in values:
                fill(tasks, unit)
                tasks.session.do(f"UPDATE task SET started = {value} WHERE id = 2")
                # Where the number is none, the next column counts.
                assert ended(tasks, epochs(unit)) == (LEFT if later else ENDED), (column_type, value)
                if not later:
                    fill(tasks, unit)
                    tasks.session.do(f"UPDATE task SET started = {value}, made = made + 39000 * {unit} WHERE id = 2")
                    assert ended(tasks, epochs(unit)) == LEFT, (column_type, value)


@mostly_on("postgresql")
def test_timeout_that_is_no_duration_delays_no_other_job(tasks: Tasks) -> None:
    for expected, groups in ((LEFT, (HUGE, NO_NUMBER)), (ENDED, (NEGATIVE, TINY))):
        for column_type, values in types_of(tasks, *groups):
            with_columns_of(tasks, column_type)
            for value in values:
                for unit in ("ms", "h"):
                    fill(tasks, 1)
                    tasks.session.do(f"UPDATE task SET run_limit = {value} WHERE id = 2")
                    became = ended(tasks, epochs(1, limits={"timeout": {"column": "run_limit", "unit": unit}}))
                    assert became == expected, (column_type, value, unit)
