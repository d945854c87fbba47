"""The cap on how many jobs of a source are ended in a while: a slow mistake does not go on for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from reaper.cli import exit_codes
from reaper.common.rates import Rate, parse_rate
from reaper.memory import Memory
from reaper.memory.ended_lately import _ENDED
from reaper.model import Outcome, SweepReport
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.source.ending_cap import EndedLately, EndingCap
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.commands import Reaper
from tests.support.protea import PATIENCE, Protea, SweepRecorder, thresholds

TEN_MINUTES = 600.0


def capped(protea: Protea, ended: EndedLately, most: int = 10, seconds: float = TEN_MINUTES) -> Source:
    cap = EndingCap(Rate(most, seconds), "reaper.toml:7", ended)
    return Source("main", protea.url, resolve("protea"), thresholds(), PATIENCE, SourceOptions(cap=cap))


def passed(memory: Memory, seconds: float) -> None:
    """So much time passes for the counts: they get older."""
    memory._file.write(lambda connection: connection.execute(update(_ENDED).values(slot=_ENDED.c.slot - seconds)))


def sweep_of(source: Source, release: int = 0) -> SweepReport:
    options = SweepOptions("test-host", 1000, Breaker(50, 0.5), override_breaker_up_to=release)
    return sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())


def test_fault_of_five_jobs_a_minute_is_held_before_long_and_stays_held(protea: Protea, tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    source, reaped = capped(protea, memory.ended_lately, most=20), list[int]()
    for _ in range(12):
        for _ in range(5):
            protea.stale()
        reaped.append(sweep_of(source).reaped)
        passed(memory, 60)
    assert reaped == [5] * 4 + [0] * 8
    report = sweep_of(source)
    assert (report.outcome, report.reaped) == (Outcome.HELD, 0)
    assert report.cap is not None and "the most that this source may end (reaper.toml:7)" in report.cap


def test_just_as_many_as_the_cap_in_its_time_do_not_pass_for_ever(protea: Protea, tmp_path: Path) -> None:
    """A slot in which the time begins counts whole: 5 a month are more than 50 in 10 months.

    With slots of days, the test itself does not run into the next slot.
    """
    memory, month = Memory.open(tmp_path), 30 * 86_400
    source, outcomes = capped(protea, memory.ended_lately, most=50, seconds=10 * month), list[Outcome]()
    for _ in range(11):
        for _ in range(5):
            protea.stale()
        outcomes.append(sweep_of(source).outcome)
        passed(memory, month)
    assert outcomes == [Outcome.DONE] * 10 + [Outcome.HELD]


def test_cap_that_holds_ends_none_rather_than_some(protea: Protea) -> None:
    jobs = [protea.stale() for _ in range(11)]
    report = sweep_of(capped(protea, Memory.open(None).ended_lately))
    assert (report.outcome, report.reaped) == (Outcome.HELD, 0)
    assert all(protea.status(job) == "running" for job in jobs)


@pytest.mark.parametrize(("release", "reaped"), [(10, 0), (11, 11), (20, 11)])
def test_release_lets_through_no_more_than_it_names_and_counts_from_zero(
    protea: Protea, release: int, reaped: int
) -> None:
    source = capped(protea, Memory.open(None).ended_lately)
    for _ in range(11):
        protea.stale()
    assert sweep_of(source, release).reaped == reaped
    if reaped:
        for _ in range(10):
            protea.stale()
        assert sweep_of(source).reaped == 10


def test_count_survives_a_restart_and_ends_with_its_time(protea: Protea, tmp_path: Path) -> None:
    for _ in range(8):
        protea.stale()
    assert sweep_of(capped(protea, Memory.open(tmp_path).ended_lately)).reaped == 8
    for _ in range(3):
        protea.stale()
    memory = Memory.open(tmp_path)
    assert sweep_of(capped(protea, memory.ended_lately)).outcome is Outcome.HELD
    passed(memory, TEN_MINUTES + 20)
    assert sweep_of(capped(protea, memory.ended_lately)).reaped == 3


def test_process_that_is_killed_leaves_its_places_taken(protea: Protea, tmp_path: Path) -> None:
    protea.stale()
    source = capped(protea, Memory.open(tmp_path).ended_lately)
    cap = source.options.cap
    assert cap is not None
    cap.places("main", 10, released=False).__enter__()  # and never left
    assert sweep_of(source).outcome is Outcome.HELD


def test_places_of_jobs_that_were_not_ended_are_given_back(protea: Protea) -> None:
    jobs = [protea.stale() for _ in range(10)]
    ended = Memory.open(None).ended_lately
    with protea.connect() as worker:
        worker.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (jobs[0],))
        assert sweep_of(capped(protea, ended)).reaped == 9
    assert ended.counted("main", 60, 10) == 9


def test_cap_that_cannot_count_ends_nothing(protea: Protea, tmp_path: Path) -> None:
    job, memory = protea.stale(), Memory.open(tmp_path)
    assert memory.path is not None
    memory.path.unlink()
    memory.path.mkdir()
    report = sweep_of(capped(protea, memory.ended_lately))
    assert report.outcome is Outcome.FAILED and str(memory.path) in str(report.error)
    assert protea.status(job) == "running"


def test_command_counts_with_the_daemon_of_its_state_directory(protea: Protea, tmp_path: Path, database: str) -> None:
    memory = Memory.open(tmp_path)
    memory.ended_lately.take("default", 8, 10, 60, 10)  # as a daemon's sweep does
    reaper = Reaper(
        tmp_path, {"REAPER_DATABASE_URL": database, "REAPER_STATE_DIR": str(tmp_path), "REAPER_MOST": "10 in 10m"}
    )
    jobs = [protea.stale() for _ in range(3)]
    for arguments in (["sweep", "--yes"], ["clear", "--yes"], ["cleanup", "--older-than-minutes", "60", "--yes"]):
        result = reaper(*arguments)
        assert result.exit_code == exit_codes.FAILED and "Held by the cap: 3 stale job(s) and 8" in result.output
    assert "The cap would hold this sweep: 3 stale job(s) and 8" in reaper("sweep", "--dry-run").output
    assert [protea.status(job) for job in jobs] == ["running"] * 3
    assert reaper("clear", "--yes", "--release", "3").exit_code == 0
    assert [protea.status(job) for job in jobs] == ["failed"] * 3


@pytest.mark.parametrize("text", ["50 in 10m", "1 in 1m", "50  in  1h30m"])
def test_rate_is_written_as_it_is_read(text: str) -> None:
    assert parse_rate(str(parse_rate(text))) == parse_rate(text)


@pytest.mark.parametrize("text", ["50", "0 in 10m", "50 in 10s", "50 in 8d", "50 per 10m", "-1 in 10m", "", 50])
def test_rate_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="such as 50 in 10m"):
        parse_rate(text)


def test_check_warns_of_a_cap_that_no_state_directory_keeps(tmp_path: Path, database: str) -> None:
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database, "REAPER_MOST": "10 in 10m"})
    assert "there is no state directory (REAPER_MOST sets the cap)" in " ".join(reaper("check").stdout.split())
    assert "sets the cap" not in reaper("check", REAPER_STATE_DIR=str(tmp_path)).stdout
