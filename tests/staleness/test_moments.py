"""What a start or a sign of life stores is taken for the moment that it is, on both servers and by every shape of the
rule: local times, values that mean "none", and jobs without any start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from reaper.common.messages import describe_counts, describe_outlook, describe_verdict, format_known_duration
from reaper.memory import FirstSeenJobStore
from reaper.memory.state_file import StateFile
from reaper.model import Evidence, Verdict
from reaper.observers.daemon_log import DaemonLog
from reaper.source import Source
from reaper.sweep.summary import unknown_lines
from tests.support.protea import HOUR, MINUTE, thresholds
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on, mostly_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG
NEW_YORK = {"naive": "America/New_York"}
LOG_WITNESS = {"witness": "log", "events": {"table": "beat_log", "job": "task_id", "at": "at"}}


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    """Tasks whose moments have no zone, and a log of signs of life."""
    with database_on(request, request.param) as database, tasks_in(database) as made:
        made.without_zones()
        made.session.do("CREATE INDEX beat_log_of_task ON beat_log (task_id, at)")
        yield made


def put(tasks: Tasks, number: int, **stored: Any) -> str:
    """A working task with these values as they are stored."""
    row = {"id": number, "kind": "embed", "state": "working", **stored}
    places = ", ".join(["%s"] * len(row))
    tasks.session.do(f"INSERT INTO task ({', '.join(row)}) VALUES ({places})", *row.values())
    return str(number)


def local(moment: datetime, zone: str = "America/New_York") -> datetime:
    return moment.astimezone(ZoneInfo("Etc/GMT+5" if zone == "-05:00" else zone)).replace(tzinfo=None)


# --- local time --------------------------------------------------------------------------------------------------


def ages(tasks: Tasks, now: datetime, zone: str = "America/New_York") -> dict[str, Verdict]:
    """Tasks of some ages and silences, with what the rule is to say of them; the last has its signs in the log."""

    def ago(seconds: float) -> datetime:
        return local(now - timedelta(seconds=seconds), zone)

    put(tasks, 4, started=ago(9 * HOUR), beat=None)
    tasks.session.do("INSERT INTO beat_log VALUES (4, %s)", ago(2))
    put(tasks, 5, started=ago(9 * HOUR), beat=None)
    tasks.session.do("INSERT INTO beat_log VALUES (5, %s)", ago(HOUR))
    return {
        put(tasks, 1, started=ago(2 * HOUR), beat=ago(2)): YOUNG,
        put(tasks, 2, started=ago(9 * HOUR), beat=ago(2)): SPARED,
        put(tasks, 3, started=ago(9 * HOUR), beat=ago(HOUR)): STALE,
        "4": SPARED,
        "5": STALE,
    }


@pytest.mark.parametrize(
    "said",
    [
        {"time": NEW_YORK},
        {"times": {"task": NEW_YORK, "beat_log": NEW_YORK}},
        {"times": {"task.started": NEW_YORK, "task.beat": NEW_YORK, "beat_log.at": NEW_YORK, "task.made": "naive"}},
    ],
    ids=["profile", "table", "column"],
)
def test_local_time_counts_in_its_zone_wherever_that_is_said(tasks: Tasks, said: dict[str, Any]) -> None:
    profile = mapped(alive=[{"witness": "heartbeat", "column": "beat"}, LOG_WITNESS], **said)
    expected = ages(tasks, tasks.now())
    source = tasks.source(profile)
    assert tasks.verdicts(source) == expected
    assert tasks.explained("1", source=source)["1"].age_seconds == pytest.approx(2 * HOUR, abs=60)
    report = tasks.sweep(source)
    assert (report.error, report.reaped) == (None, 2)
    assert {key for key, state in tasks.states().items() if state == "dead"} == {"3", "5"}


def test_zone_of_the_source_counts_where_the_profile_says_none(tasks: Tasks) -> None:
    witnesses = [{"witness": "heartbeat", "column": "beat"}, LOG_WITNESS]
    expected = ages(tasks, tasks.now(), "-05:00")
    silent = dict.fromkeys(expected, STALE) | {"1": YOUNG}
    plain = mapped(alive=witnesses, time="naive")
    assert tasks.verdicts(tasks.source(plain.in_zone("-05:00"))) == expected
    assert tasks.verdicts(tasks.source(mapped(alive=witnesses).in_zone("-05:00"))) == expected
    assert tasks.verdicts(tasks.source(plain)) != expected
    said = mapped(alive=witnesses, time={"naive": "-05:00"}).in_zone("Asia/Tokyo")
    assert tasks.verdicts(tasks.source(said)) == expected
    assert tasks.verdicts(tasks.source(mapped(alive=witnesses, time={"naive": "UTC"}).in_zone("-05:00"))) == {
        **silent,
        "1": STALE,
    }


def test_column_whose_type_has_a_zone_needs_none(tasks: Tasks) -> None:
    zoned = "MODIFY beat timestamp(6) NULL" if tasks.mariadb else "ALTER beat TYPE timestamptz"
    tasks.session.do(f"ALTER TABLE task {zoned}")
    now = tasks.now()
    written = local(now, "UTC") if tasks.mariadb else now
    put(tasks, 1, started=local(now - timedelta(hours=9)), beat=written)
    put(tasks, 2, started=local(now - timedelta(hours=9)), beat=written - timedelta(hours=1))
    assert tasks.verdicts(tasks.source(mapped(time=NEW_YORK))) == {"1": SPARED, "2": STALE}


def test_a_transition_writes_local_time(tasks: Tasks) -> None:
    now = tasks.now()
    put(tasks, 1, started=local(now - timedelta(hours=9)))
    changes = {"time": NEW_YORK, "actions": {"fail": {"set": {"state": "dead", "due": {"is": "now"}}, "also": []}}}
    assert tasks.sweep(tasks.source(mapped(**changes))).reaped == 1
    assert abs(tasks.column("due", 1) - local(now)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "night",
    [
        # The other night is one of tests/staleness/test_moments_property.py, too.
        pytest.param(datetime(2026, 3, 8, 7, tzinfo=UTC), marks=pytest.mark.thorough),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
    ],
)
def test_daylight_saving_neither_ends_the_living_nor_spares_the_dead_for_more_than_an_hour(
    tasks: Tasks, night: datetime
) -> None:
    """At every quarter of an hour of the night: a task that is alive, and one that fell silent two hours before."""
    profile = mapped(time=NEW_YORK, alive=[{"witness": "heartbeat", "column": "beat"}, LOG_WITNESS])
    for quarter in range(-8, 13):
        now = night + timedelta(minutes=15 * quarter)
        started = local(now - timedelta(hours=20))
        tasks.session.do("DELETE FROM task")
        tasks.session.do("DELETE FROM beat_log")
        for number, (column, minutes) in enumerate((("beat", 2), ("beat", 125), ("log", 2), ("log", 125)), 1):
            at = local(now - timedelta(minutes=minutes))
            put(tasks, number, started=started, beat=at if column == "beat" else None)
            if column == "log":
                tasks.session.do("INSERT INTO beat_log VALUES (%s, %s)", number, at)
        said = tasks.verdicts(tasks.as_of(now, profile, thresholds(stall=30 * MINUTE)))
        assert said == {"1": SPARED, "2": STALE, "3": SPARED, "4": STALE}, now


# --- moments that mean "none" ------------------------------------------------------------------------------------

NONE_AS_DATES = ["0001-01-01 00:00:00", "1970-01-01 00:00:00", "1969-12-31 23:59:59", "1900-01-01 00:00:00"]


@pytest.mark.parametrize("value", [*NONE_AS_DATES, "none of this server"])
def test_date_that_means_none_is_no_start_and_no_sign(tasks: Tasks, value: str) -> None:
    if value == "none of this server":
        value = "0000-00-00 00:00:00" if tasks.mariadb else "-infinity"
    now = tasks.now()
    if tasks.mariadb:
        tasks.session.do("SET SESSION sql_mode = ''")
    put(tasks, 1, started=value, made=local(now - timedelta(seconds=5), "UTC"), beat=value)
    put(tasks, 2, started=value, made=local(now - timedelta(hours=8), "UTC"), beat=value)
    put(tasks, 3, started=local(now - timedelta(hours=8), "UTC"), beat=value)
    source = tasks.source(mapped(time="naive", alive=[{"witness": "heartbeat", "column": "beat"}]))
    assert tasks.verdicts(source) == {"1": YOUNG, "2": STALE, "3": STALE}
    explained = tasks.explained("1", "3", source=source)
    assert (explained["1"].started_from, explained["1"].signs["heartbeat"]) == ("made", None)
    assert explained["3"].witness == "start"
    assert tasks.sweep(source).reaped == 2


@mostly_on("postgresql")
@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("kind", ["bigint", "double precision", "numeric(30,6)"])
@pytest.mark.parametrize("value", [0, -1, -62135596800])
def test_number_that_means_none_is_no_start(tasks: Tasks, kind: str, unit: int, value: int) -> None:
    tasks.session.do(f"ALTER TABLE task ADD begun {kind}")
    now = tasks.now()
    seconds = {"1": now.timestamp() - 5, "2": now.timestamp() - 8 * HOUR}
    put(tasks, 1, begun=value * unit, made=local(now - timedelta(seconds=5), "UTC"))
    put(tasks, 2, begun=value * unit, made=local(now - timedelta(hours=8), "UTC"))
    put(tasks, 3, begun=int(seconds["1"] * unit))
    put(tasks, 4, begun=int(seconds["2"] * unit))
    times = {"task": "naive", "task.begun": "epoch s" if unit == 1 else "epoch ms"}
    source = tasks.source(mapped(times=times, jobs={"started": ["begun", "made"]}))
    assert tasks.verdicts(source) == {"1": YOUNG, "2": STALE, "3": YOUNG, "4": STALE}


WHERE: dict[str, dict[str, Any]] = {
    "sign": {"alive": [{"witness": "heartbeat", "column": "tick"}]},
    "deadline": {"alive": [{"witness": "lease", "deadline": "tick"}]},
    "start": {"jobs": {"started": ["tick"]}, "alive": [{"witness": "heartbeat", "column": "beat"}]},
    "event": {"alive": [{"witness": "log", "events": {"table": "ticks", "job": "task_id", "at": "tick"}}]},
    "events": {"alive": [{"witness": "log", "events": {"table": "ticks", "job": "task_id", "at": ["tick", "more"]}}]},
    "child": {"alive": [{"witness": "children", "children": {"parent": "tries", "at": "tick"}}]},
}
WORDS = {"epoch s": "seconds", "epoch ms": "milliseconds"}


@dataclass
class Ticking:
    """Two tasks of 8 h: the first one is alive, in the other unit than is said; the second one has been silent for
    long, in the unit that is said. Wherever their numbers stand.
    """

    tasks: Tasks
    said: str

    @property
    def other(self) -> str:
        [other] = WORDS.keys() - {self.said}
        return other

    def fill(self) -> None:
        self.tasks.session.do("ALTER TABLE task ADD tick bigint")
        self.tasks.session.do("CREATE TABLE ticks (task_id integer, tick bigint, more bigint)")
        now, long_ago = self.tasks.now().timestamp() + 30, local(self.tasks.now() - timedelta(hours=8), "UTC")
        per_second = {"epoch s": 1, "epoch ms": 1000}
        for number, tick in ((1, now * per_second[self.other]), (2, (now - 8 * HOUR) * per_second[self.said])):
            put(self.tasks, number, started=long_ago, tick=int(tick))
            self.tasks.session.do("INSERT INTO ticks VALUES (%s, %s, NULL)", number, int(tick))
            child = "INSERT INTO task (id, state, tries, tick) VALUES (%s, 'over', %s, %s)"
            self.tasks.session.do(child, number + 10, number, int(tick))

    def column(self, where: str) -> str:
        return "ticks.tick" if where in ("event", "events") else "task.tick"

    def source(self, where: str, unit: str) -> Source:
        times = {"task": "naive", "ticks": unit} if "event" in where else {"task": "naive", "task.tick": unit}
        return self.tasks.source(mapped(times=times, **WHERE[where]))


def seen_as_unknown(ticking: Ticking, where: str) -> Evidence:
    """The first task, of which the rule says, in each shape, that it is not stale, and the evidence that it is unknown;
    the other one is judged.
    """
    source, column = ticking.source(where, ticking.said), ticking.column(where)
    verdicts = ticking.tasks.verdicts(source)
    assert (verdicts["1"], verdicts["2"]) == (YOUNG if where == "start" else SPARED, STALE), where
    one = ticking.tasks.explained("1", source=source)["1"]
    unknown = one.unknown or ""
    assert unknown.startswith(
        f"{column} has numbers that can only be {WORDS[ticking.other]}, and is read as {ticking.said!r}"
    )
    assert f'times."{column}" = "{ticking.other}"' in unknown
    assert (one.silence_seconds, one.last_sign, one.witness) == (None, None, None), where
    assert format_known_duration(one, one.silence_seconds) == "unknown"
    assert (one.age_seconds is None) == (where == "start")
    assert describe_outlook(one) == f"when it becomes stale is unknown: {unknown}"
    assert not re.search(r"silent for \d|running for \d", describe_verdict(one))
    return one


@pytest.mark.parametrize("said", [pytest.param("epoch s", marks=pytest.mark.thorough), "epoch ms"])
def test_number_in_the_other_unit_is_unknown_and_ends_no_job(tasks: Tasks, said: str) -> None:
    ticking = Ticking(tasks, said)
    ticking.fill()
    for where in WHERE:
        seen_as_unknown(ticking, where)
    source = ticking.source("sign", said)
    one = seen_as_unknown(ticking, "sign")
    report = tasks.sweep(source)
    assert (report.error, report.reaped, report.unknown_moments) == (None, 1, (one.unknown,))
    [line] = unknown_lines(report)
    assert line == f"1 job(s) have been silent for an unknown time and were spared. {one.unknown}"
    assert tasks.states() == {"1": "working", "2": "dead", "11": "over", "12": "over"}
    assert tasks.sweep(ticking.source("sign", ticking.other)).unknown_moments == ()


@mostly_on("postgresql")
def test_milliseconds_in_a_column_of_seconds_are_unknown_too(tasks: Tasks) -> None:
    ticking = Ticking(tasks, "epoch s")
    ticking.fill()
    seen_as_unknown(ticking, "sign")
    one = seen_as_unknown(ticking, "start")
    assert tasks.sweep(ticking.source("start", "epoch s")).unknown_moments == (one.unknown,)


@mostly_on("postgresql")
def test_recent_sign_of_another_witness_is_known_beside_an_unknown_one(tasks: Tasks) -> None:
    ticking = Ticking(tasks, "epoch ms")
    ticking.fill()
    witnesses = [*WHERE["sign"]["alive"], {"witness": "pulse", "column": "beat"}]
    times = {"task": "naive", "task.tick": "epoch ms"}
    source = tasks.source(mapped(times=times, alive=witnesses))
    tasks.session.do("UPDATE task SET beat = %s WHERE id = 1", local(tasks.now() - timedelta(seconds=20), "UTC"))
    one = tasks.explained("1", source=source)["1"]
    assert (one.verdict, one.witness, one.signs["heartbeat"]) == (SPARED, "pulse", None)
    assert "but alive: pulse 2" in describe_verdict(one)
    tasks.session.do("UPDATE task SET beat = %s WHERE id = 1", local(tasks.now() - timedelta(hours=2), "UTC"))
    one = tasks.explained("1", source=source)["1"]
    assert (one.verdict, one.witness, one.silence_seconds) == (SPARED, None, None)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e300", "-1e300"])
def test_number_beyond_the_calendar_hides_no_other_job(tasks: Tasks, value: str) -> None:
    """A large one is in the future: as a sign of life, it counts from when it was first seen."""
    if tasks.mariadb and value in ("NaN", "Infinity"):
        pytest.skip("MariaDB has no such numbers")
    tasks.session.do("ALTER TABLE task ADD pulse double precision")
    now = tasks.now()
    long_ago = local(now - timedelta(hours=8), "UTC")
    put(tasks, 1, started=long_ago)
    tasks.session.do(f"UPDATE task SET pulse = {value if tasks.mariadb else repr(value)}")
    put(tasks, 2, started=long_ago, pulse=now.timestamp() - 5)
    put(tasks, 3, started=long_ago, pulse=now.timestamp() - HOUR)
    pulse = {"witness": "pulse", "column": "pulse"}
    source = tasks.source(mapped(times={"task": "naive", "task.pulse": "epoch s"}, alive=[pulse]))
    first = STALE if value in ("NaN", "-1e300") else SPARED
    assert tasks.verdicts(source) == {"1": first, "2": SPARED, "3": STALE}


# --- text -----------------------------------------------------------------------------------------------------------


def test_text_counts_in_signs_and_starts_and_one_that_is_no_moment_ends_nothing(tasks: Tasks) -> None:
    tasks.session.do("ALTER TABLE task ADD said varchar(60)")
    now = tasks.now()
    old = local(now - timedelta(hours=9), "UTC")
    heard = {
        1: (now - timedelta(seconds=5)).isoformat(),
        2: (now - timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
        3: (now - timedelta(seconds=5)).astimezone(ZoneInfo("Asia/Kolkata")).isoformat(" "),
        4: "garbage",
        5: "",
        6: None,
    }
    for number, said in heard.items():
        put(tasks, number, started=old, said=said)
    witness = {"witness": "said", "column": "said"}
    source = tasks.source(mapped(times={"task": "naive", "task.said": "iso text"}, alive=[witness]))
    assert tasks.verdicts(source) == {"1": SPARED, "2": STALE, "3": SPARED, "4": SPARED, "5": STALE, "6": STALE}
    starts = mapped(times={"task": "naive", "task.said": "iso text"}, jobs={"started": ["said", "started"]}, alive=[])
    assert tasks.verdicts(tasks.source(starts)) == {
        **dict.fromkeys("123", YOUNG),
        **dict.fromkeys("456", STALE),
    }


# --- no start at all ------------------------------------------------------------------------------------------------


def remembering(tasks: Tasks, file: StateFile, **changes: Any) -> Source:
    source = tasks.source(mapped(time="naive", **changes))
    source.options = replace(source.options, first_seen=FirstSeenJobStore(file))
    return source


def passed(file: StateFile, seconds: float) -> None:
    """That time has passed since what is remembered was first seen."""
    statement = f"UPDATE first_seen_job SET first_seen_epoch = first_seen_epoch - {seconds}"
    file.write(lambda connection: connection.exec_driver_sql(statement))


def test_job_without_a_start_counts_from_when_the_reaper_first_saw_it(tasks: Tasks) -> None:
    file, now = StateFile(None), tasks.now()
    put(tasks, 1)
    put(tasks, 2, beat=local(now, "UTC"))
    put(tasks, 3, started=local(now - timedelta(hours=1), "UTC"))
    first = tasks.sweep(remembering(tasks, file))
    assert first.census is not None and (first.census.without_start, first.reaped) == (2, 0)
    assert describe_counts(first.census).endswith(
        "; 2 without a start, which count from when the reaper first saw them"
    )
    assert tasks.verdicts(remembering(tasks, file)) == {"1": YOUNG, "2": YOUNG, "3": YOUNG}
    passed(file, 7 * HOUR)
    assert tasks.verdicts(remembering(tasks, file)) == {"1": STALE, "2": SPARED, "3": YOUNG}
    explained = tasks.explained("1", "3", source=remembering(tasks, file))
    assert explained["1"].started_from == "first seen by the reaper"
    assert explained["1"].age_seconds == pytest.approx(7 * HOUR, abs=60)
    assert "after running for 7h since the reaper first saw it, as it has no start (timeout 6h)" in describe_verdict(
        explained["1"]
    )
    assert tasks.sweep(remembering(tasks, file)).reaped == 1
    assert tasks.states() == {"1": "dead", "2": "working", "3": "working"}
    assert tasks.said(1)["started_from"] == "first seen by the reaper"


def test_job_without_a_start_is_seen_anew_when_it_runs_again(tasks: Tasks) -> None:
    file = StateFile(None)
    put(tasks, 1)
    tasks.sweep(remembering(tasks, file))
    passed(file, 5 * HOUR)
    tasks.session.do("UPDATE task SET state = 'waiting'")
    tasks.sweep(remembering(tasks, file))
    tasks.session.do("UPDATE task SET state = 'working'")
    tasks.sweep(remembering(tasks, file))
    passed(file, 2 * HOUR)
    assert tasks.sweep(remembering(tasks, file)).reaped == 0
    tasks.session.do("UPDATE task SET tries = 1")
    claimed = {"jobs": {"claim": ["tries"]}}
    tasks.sweep(remembering(tasks, file, **claimed))
    passed(file, 5 * HOUR)
    tasks.session.do("UPDATE task SET tries = 2")
    assert tasks.sweep(remembering(tasks, file, **claimed)).reaped == 0
    assert tasks.sweep(remembering(tasks, file, **claimed)).reaped == 0
    passed(file, 7 * HOUR)
    assert tasks.sweep(remembering(tasks, file, **claimed)).reaped == 1


def test_jobs_beyond_those_that_are_remembered_are_counted_and_said_and_get_their_turn(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered stays so, whatever the key of later jobs: else none of many would ever grow old."""
    monkeypatch.setattr("reaper.source.first_seen.MAX_JOBS", 2)
    monkeypatch.setattr(FirstSeenJobStore, "max_jobs", 2)
    file, log = StateFile(None), DaemonLog()
    for number in (5, 6):
        put(tasks, number)
    tasks.sweep(remembering(tasks, file))
    passed(file, 5 * HOUR)
    for number in (1, 2):
        put(tasks, number)
    with capture_logs() as lines:
        for _ in range(2):
            report = tasks.sweep(remembering(tasks, file))
            log.swept(report)
        assert report.census is not None
        assert (report.census.without_start, report.census.start_unknown) == (4, 2)
        assert "(2 of these are young, as no sweep has noted them)" in describe_counts(report.census)
        passed(file, 2 * HOUR)
        assert tasks.sweep(remembering(tasks, file)).reaped == 2
        assert tasks.states() == {"1": "working", "2": "working", "5": "dead", "6": "dead"}
        log.swept(tasks.sweep(remembering(tasks, file)))
    said = [(line["log_level"], line.get("jobs")) for line in lines if "start" in line["event"]]
    assert said == [("warning", 2), ("info", None)]
    passed(file, 7 * HOUR)
    assert tasks.sweep(remembering(tasks, file)).reaped == 2


def test_job_that_was_not_seen_before_is_young_and_says_why(tasks: Tasks) -> None:
    put(tasks, 1)
    source = tasks.source(mapped(time="naive"))
    assert tasks.verdicts(source) == {"1": YOUNG}
    [evidence] = tasks.explained("1", source=source).values()
    assert describe_verdict(evidence) == (
        "running without a start: it counts from when a sweep of the daemon first sees it"
    )


def test_start_in_the_future_is_said_to_be_that(tasks: Tasks) -> None:
    put(tasks, 1, started=local(tasks.now() + timedelta(hours=5, minutes=19), "UTC"))
    [evidence] = tasks.explained("1", source=tasks.source(mapped(time="naive"))).values()
    said = describe_verdict(evidence)
    assert said.startswith("running although its start (started) is in the future, at 20")
    assert "-" not in said.split(", at ")[0]
    tasks.session.do("UPDATE task SET started = %s", "9999-12-31 23:59:59.999999" if tasks.mariadb else "infinity")
    [evidence] = tasks.explained("1", source=tasks.source(mapped(time="naive"))).values()
    assert evidence.verdict is YOUNG
    assert describe_verdict(evidence).startswith("running although its start (started) is in the future, at ")
