"""What an action writes has room in its column, or `check` says that it has not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.catalog.number_ranges import range_of
from reaper.check import Level
from reaper.errors import ConfigError
from tests.support.checks import OwnTables, profile_of
from tests.support.worlds.servers import database_on, mostly_on

TABLE = """CREATE TABLE t (id bigint PRIMARY KEY, state varchar(9) NOT NULL, started_at MOMENT NOT NULL,
kind varchar(80), out_ {type})"""
PROFILE = """
jobs = {{ table = "t", key = "id", started = "started_at", running = {{ column = "state", in = ["on"] }} }}
actions.fail.set = {{ state = "off", out_ = {value} }}
{more}
"""


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        yield OwnTables(database)


def make(own: OwnTables, type_: str) -> None:
    own.do(TABLE.format(type=type_), "CREATE INDEX t_state ON t (state, started_at)")
    own.do(f"INSERT INTO t (id, state, started_at, kind) VALUES (5000000000, 'on', AGO, '{'x' * 70}')")


@mostly_on("postgresql", "own")
@pytest.mark.parametrize(
    ("type_", "value", "capped"),
    [
        pytest.param("smallint", '{ is = "age" }', '{ is = "age", most = 32767 }', marks=pytest.mark.thorough),
        ("numeric(4,2)", '{ is = "silence" }', '{ is = "silence", most = 99 }'),
        ("varchar(30)", '{ is = "message" }', '{ is = "message", most = 30 }'),
        pytest.param("varchar(5)", '{ is = "sweep_id" }', '{ is = "sweep_id", most = 5 }', marks=pytest.mark.thorough),
        pytest.param("varchar(8)", '{ is = "host" }', '{ is = "host", most = 8 }', marks=pytest.mark.thorough),
        ("int", '{ column = "id" }', None),
        ("varchar(20)", '{ column = "kind" }', '{ sql = "substr({kind}, 1, 20)" }'),
        ("numeric(4,2)", "200", "99.5"),
        pytest.param("smallint", "40000", "4", marks=pytest.mark.thorough),
    ],
)
def test_value_without_room_is_an_error_and_a_capped_one_is_written(
    own: OwnTables, type_: str, value: str, capped: str | None
) -> None:
    make(own, type_)
    [finding] = own.check(profile_of(PROFILE.format(value=value, more="")))
    assert (finding.level, finding.subject) == (Level.ERROR, "t.out_")
    assert finding.message.startswith("actions.fail.set writes ") and "can never be ended" in finding.message
    if capped is not None:
        if capped.startswith("{"):
            assert finding.message.endswith(capped)
        mapping = profile_of(PROFILE.format(value=capped, more=""))
        assert own.check(mapping) == []
        assert own.sweep(mapping).reaped == 1


@mostly_on("postgresql", "own")
@pytest.mark.parametrize(
    ("type_", "value"),
    [("numeric(4,2)", '{ is = "age" }'), ("varchar(30)", '{ is = "message" }'), ("int", '{ column = "id" }')],
)
def test_job_whose_value_has_no_room_is_never_ended(own: OwnTables, type_: str, value: str) -> None:
    make(own, type_)
    report = own.sweep(profile_of(PROFILE.format(value=value, more="")))
    assert report.reaped == 0 and len(report.failures) == 1


@mostly_on("postgresql", "own")
@pytest.mark.parametrize("type_", ["varchar(600)", "text"])
def test_message_that_fits_is_no_error(own: OwnTables, type_: str) -> None:
    make(own, type_)
    assert own.check(profile_of(PROFILE.format(value='{ is = "message" }', more=""))) == []


def test_milliseconds_do_not_fit_into_an_integer(own: OwnTables) -> None:
    make(own, "int")
    more = 'times = { "t.out_" = "epoch ms" }'
    [finding] = own.check(profile_of(PROFILE.format(value='{ is = "now" }', more=more)))
    assert finding.subject == "t.out_" and "the moment, as a number that is out of its range" in finding.message
    assert own.check(profile_of(PROFILE.format(value='{ is = "now" }', more=more.replace("ms", "s")))) == []


def test_message_is_checked_against_a_constraint_on_its_length(own: OwnTables) -> None:
    make(own, "text CHECK (char_length(out_) <= 100)")
    [finding] = own.check(profile_of(PROFILE.format(value='{ is = "message" }', more="")))
    assert finding.level is Level.ERROR and "a text of 512 characters is refused by the constraint" in finding.message
    mapping = profile_of(PROFILE.format(value='{ is = "message", most = 100 }', more=""))
    assert own.check(mapping) == [] and own.sweep(mapping).reaped == 1


@pytest.mark.parametrize("name", ["now", "reason", "evidence"])
def test_only_texts_and_durations_can_be_capped(name: str) -> None:
    with pytest.raises(ConfigError, match="can have a 'most'"):
        profile_of(PROFILE.format(value=f'{{ is = "{name}", most = 3 }}', more=""))


@pytest.mark.parametrize(
    ("type_", "numbers"),
    [
        ("smallint", (-32768, 32767)),
        ("tinyint(3) unsigned", (0, 255)),
        ("mediumint(9)", (-8388608, 8388607)),
        ("numeric(4,2)", (-99.99, 99.99)),
        ("decimal(3,0) unsigned", (0, 999)),
        ("numeric(2,-3)", (-99000, 99000)),
        ("double precision", None),
        ("numeric", None),
        ("text", None),
    ],
)
def test_range_of_a_type_is_read_from_its_name(type_: str, numbers: tuple[float, float] | None) -> None:
    assert range_of(type_) == (None if numbers is None else pytest.approx(numbers))
