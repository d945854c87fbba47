"""In any night, in any zone and in any format: the rule says what a plain reading with zoneinfo says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reaper.common.time_zones import offset_changes
from reaper.model import Verdict
from reaper.profile import Profile
from reaper.staleness.downtime import DowntimeTracker
from tests.support.examples import examples
from tests.support.protea import HOUR, MINUTE, thresholds
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

ZONES = ("America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "Africa/Casablanca", "America/St_Johns", "UTC")
FORMATS = ("naive", "iso text", "iso text with offset", "epoch s", "epoch ms")
NONE = {"naive": "1970-01-01 00:00:00", "iso text": "", "iso text with offset": "0001-01-01T00:00:00Z"}
TIMEOUT, STALL = 6 * HOUR, 30 * MINUTE
AHEAD = timedelta(minutes=1)
"""A sign that is further ahead than this counts from when it was first seen, which is now."""


@dataclass(frozen=True)
class Job:
    """Ages in minutes of its start, its heartbeat and its newest entry; -1 means "none", None is NULL."""

    started: int | None
    made: int | None
    beat: int | None
    entry: int | None


@dataclass(frozen=True)
class Night:
    zone: str
    now: datetime
    format: str
    jobs: tuple[Job, ...]


moment = st.none() | st.just(-1) | st.integers(0, 26 * 60)
job = st.builds(Job, moment, moment, moment, st.none() | st.integers(0, 26 * 60))


@st.composite
def nights(draw: st.DrawFn) -> Night:
    zone = draw(st.sampled_from(ZONES))
    changes = [at for at in offset_changes(zone).at if at > 1_577_836_800] or [1_793_512_800]
    minutes = draw(st.integers(-4 * 60, 28 * 60))
    now = datetime.fromtimestamp(draw(st.sampled_from(changes)), UTC) + timedelta(minutes=minutes)
    jobs = draw(st.lists(job, min_size=1, max_size=12))
    return Night(zone, now, draw(st.sampled_from(FORMATS)), tuple(jobs))


# --- the plain reading -------------------------------------------------------------------------------------------


def shown(night: Night, age: int) -> datetime:
    """What the clocks of the zone showed."""
    at = night.now - timedelta(minutes=age)
    return at.astimezone(ZoneInfo(night.zone)).replace(tzinfo=None)


def read(night: Night, age: int | None) -> datetime | None:
    """The moment that a stored value is taken for."""
    if age is None or age == -1:
        return None
    if night.format not in ("naive", "iso text"):
        return night.now - timedelta(minutes=age)
    local = shown(night, age)
    return max(local.replace(tzinfo=ZoneInfo(night.zone), fold=fold).astimezone(UTC) for fold in (0, 1))


def verdict(night: Night, one: Job) -> Verdict:
    start = next((at for at in (read(night, one.started), read(night, one.made)) if at is not None), None)
    if start is None or start >= night.now - timedelta(seconds=TIMEOUT):
        return Verdict.YOUNG
    signs = [at for at in (read(night, one.beat), read(night, one.entry)) if at is not None]
    newest = max([start, *(night.now if at > night.now + AHEAD else at for at in signs)])
    return Verdict.STALE if newest < night.now - timedelta(seconds=STALL) else Verdict.SPARED


# --- the real thing ----------------------------------------------------------------------------------------------


def written(night: Night, age: int | None) -> Any:
    if age is None:
        return None
    if night.format.startswith("epoch"):
        unit = 1 if night.format == "epoch s" else 1000
        return 0 if age == -1 else (night.now - timedelta(minutes=age)).timestamp() * unit
    if age == -1:
        return NONE[night.format]
    if night.format == "iso text with offset":
        return (night.now - timedelta(minutes=age)).astimezone(ZoneInfo(night.zone)).isoformat()
    local = shown(night, age)
    return local if night.format == "naive" else local.isoformat(" ")


COLUMN = {
    "naive": "naive",
    "iso text": "words",
    "iso text with offset": "words",
    "epoch s": "exact",
    "epoch ms": "exact",
}


def profile(night: Night) -> Profile:
    kind = COLUMN[night.format]
    time = night.format.removesuffix(" with offset")
    zoned = {time: night.zone} if kind != "exact" else time
    names = [f"{column}_{kind}" for column in ("started", "made", "beat", "at")]
    return mapped(
        times={f"night.{name}": zoned for name in names[:3]} | {f"night_log.{names[3]}": zoned},
        jobs={"table": "night", "started": names[:2]},
        alive=[
            {"witness": "heartbeat", "column": names[2]},
            {"witness": "log", "events": {"table": "night_log", "job": "task_id", "at": names[3]}},
        ],
        actions={"fail": {"set": {"state": "dead"}, "also": []}},
    )


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        types = {
            "naive": "datetime(6)" if made.mariadb else "timestamp",
            "words": "varchar(40)",
            "exact": "double precision",
        }
        columns = (
            f"{column}_{kind} {type_}" for column in ("started", "made", "beat") for kind, type_ in types.items()
        )
        made.session.do(
            f"CREATE TABLE night (id int PRIMARY KEY, kind varchar(9), state varchar(9), {', '.join(columns)})"
        )
        entries = ", ".join(f"at_{kind} {type_}" for kind, type_ in types.items())
        made.session.do(f"CREATE TABLE night_log (task_id int NOT NULL, {entries})")
        made.session.do("CREATE INDEX night_log_at ON night_log (task_id, at_naive)")
        yield made


def insert(tasks: Tasks, night: Night) -> Sequence[str]:
    kind, session = COLUMN[night.format], tasks.session
    session.do("DELETE FROM night")
    session.do("DELETE FROM night_log")
    for number, one in enumerate(night.jobs):
        values = [written(night, age) for age in (one.started, one.made, one.beat)]
        names = ", ".join(f"{column}_{kind}" for column in ("started", "made", "beat"))
        session.do(f"INSERT INTO night (id, state, {names}) VALUES (%s, 'working', %s, %s, %s)", number, *values)
        if one.entry is not None:
            for age in (one.entry, one.entry + 90):
                session.do(f"INSERT INTO night_log (task_id, at_{kind}) VALUES (%s, %s)", number, written(night, age))
    return [str(number) for number in range(len(night.jobs))]


@settings(
    max_examples=examples(10, all_of_them=300),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(night=nights())
def check(tasks: Tasks, night: Night) -> None:
    keys = insert(tasks, night)
    expected = {key: verdict(night, one) for key, one in zip(keys, night.jobs, strict=True)}
    source = tasks.as_of(night.now, profile(night), thresholds(timeout=TIMEOUT, stall=STALL))
    explained = {key: evidence.verdict for key, evidence in tasks.explained(*keys, source=source).items()}
    assert explained == expected
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            surveyed = {candidate.key[0] for candidate in source.survey.stream(connection, context)}
    assert surveyed == {key for key, said in expected.items() if said is Verdict.STALE}


@pytest.mark.every_server
def test_rule_says_in_every_night_what_a_plain_reading_says(tasks: Tasks) -> None:
    check(tasks)
