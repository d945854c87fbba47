"""Whatever ends jobs leaves those alone that an operator holds, and those of a kind that is never ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import ColumnElement, literal, select

from reaper.cli import exit_codes
from reaper.errors import StateUnavailable
from reaper.memory import JobHoldStore, Memory, kept_holds
from reaper.memory.job_holds import MAX_HOLDS
from reaper.memory.memory import FILE
from reaper.memory.state_file import StateFile
from reaper.model import JobHold, Outcome
from reaper.operations.hold import take_hold
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.sql import expressions as sql
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.commands import Reaper
from tests.support.protea import HOUR, MINUTE, PATIENCE, Protea, thresholds
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import world_on
from tests.support.worlds.world import State
from tests.sweep.test_quiet_times import around

NEVER = '[sources.default]\nnever = [{ kind = "migrate_*" }]\n'


@pytest.fixture
def reaper(tmp_path: Path, database: str) -> Reaper:
    state = tmp_path / "state"
    state.mkdir()
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database, "REAPER_STATE_DIR": str(state)})


def test_fail_of_a_held_job_says_who_holds_it_and_how_to_take_that_back(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    reaper("hold", job, "--for", "3h", "--reason", "Ann looks")
    result = reaper("fail", "--yes", job, "--reason", "gone")
    assert result.exit_code == exit_codes.FAILED and "on hold until" in result.stderr
    assert "Ann looks" in result.stderr and f"`reaper unhold {job} --source default`" in result.stderr


def test_fail_of_a_kind_that_is_never_ended_says_where_that_was_set(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale(operation="migrate_index")
    reaper.configure(NEVER)
    result = reaper("fail", "--yes", job, "--reason", "gone")
    assert result.exit_code == exit_codes.FAILED and "never: migrate_*" in result.stderr
    assert f"Change `never` ({reaper.folder / 'reaper.toml'}:2)" in result.stderr


def test_hold_names_a_running_reaper_that_may_not_have_seen_it(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    with protea.connect() as other:
        other.execute("SET application_name = 'reaper elsewhere'")
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (job,))
        document = reaper.json("hold", job, "--for", "1h", "--reason", "look")
    assert document["running"] and "reaper elsewhere" in document["notes"][0]


def test_hold_of_a_job_that_has_ended_says_so(reaper: Reaper, protea: Protea) -> None:
    job = protea.job(status="succeeded", finished=0)
    result = reaper("hold", job, "--for", "1h", "--reason", "look")
    assert result.exit_code == 0 and "It is not running now" in result.stdout


def test_holds_are_listed_with_who_and_why(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    assert reaper("holds").stdout == "No job is held.\n"
    taken = reaper.json("hold", job, "--for", "90m", "--reason", "Ann looks")
    [hold] = reaper.json("holds")["holds"]
    assert (hold["key"], hold["source"], hold["reason"]) == (job, "default", "Ann looks")
    assert {name: taken[name] for name in hold} == hold
    assert job in reaper("holds").stdout and "Ann looks" in reaper("holds").stdout


def test_hold_ends_by_the_clock_of_the_database(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    store = kept_holds(reaper.folder / "state")
    now = protea.now()
    store.add(JobHold("default", (job,), now - timedelta(seconds=1), "ann", "over"), now - timedelta(hours=1))
    assert reaper.json("holds")["holds"] == []
    reaper("sweep", "--yes")
    assert protea.status(job) == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--for", "32d"], "above 0 and up to 31d"),
        (["--for", "0s"], "above 0 and up to 31d"),
        (["--for", "soon"], "expected a duration"),
        ([], "Missing option '--for'"),
    ],
)
def test_hold_needs_a_time_that_ends(reaper: Reaper, protea: Protea, arguments: list[str], message: str) -> None:
    result = reaper("hold", protea.stale(), "--reason", "x", *arguments)
    assert result.exit_code == exit_codes.USAGE and message in result.stderr


def test_hold_without_a_state_directory_is_refused(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    for command in (["hold", job, "--for", "1h", "--reason", "x"], ["unhold", job], ["holds"]):
        result = reaper(*command, REAPER_STATE_DIR="")
        assert result.exit_code == exit_codes.FAILED and "there is no state directory" in result.stderr


def test_unhold_of_a_job_that_is_not_held_is_refused(reaper: Reaper, protea: Protea) -> None:
    held = protea.stale()
    assert "none is held" in reaper("unhold", held).stderr
    reaper("hold", held, "--for", "1h", "--reason", "x")
    result = reaper("unhold", f"{held[:-1]}x")
    assert result.exit_code == exit_codes.FAILED and f"did you mean '{held}'?" in result.stderr


def test_unhold_takes_the_spelling_of_the_database_and_a_job_that_is_gone(reaper: Reaper, protea: Protea) -> None:
    job, gone = protea.stale(), protea.stale()
    for one in (job, gone):
        reaper("hold", one, "--for", "1h", "--reason", "x")
    protea.connection.execute("DELETE FROM job_event WHERE job_id = %s", (gone,))
    protea.connection.execute("DELETE FROM job WHERE id = %s", (gone,))
    assert reaper("unhold", job.upper()).exit_code == 0
    assert reaper("unhold", gone).exit_code == 0
    assert reaper.json("holds")["holds"] == []


def test_report_explain_and_check_say_why_a_job_is_left(reaper: Reaper, protea: Protea) -> None:
    held, never = protea.stale(), protea.stale(operation="migrate_index")
    others = [protea.stale(), protea.stale()]
    quiet = around(protea.now(), 2 * MINUTE, 2 * HOUR)
    reaper.configure(f'[kinds.train]\ntimeout_seconds = "9d"\n{NEVER}quiet = "{quiet}"\nmost = "1 in 10m"\n')
    reaper("hold", held, "--for", "3h", "--reason", "Ann looks")
    expected = {held: {"hold", "quiet", "cap"}, never: {"never", "quiet", "cap"}, others[0]: {"quiet", "cap"}}
    [reported] = reaper.json("report")["sources"]
    left = {job["key"]: {each["reason"] for each in job["left"]} for job in reported["jobs"]}
    assert {job: left[job] for job in expected} == expected
    assert reported["census"]["kept"] == 2
    shown = {job: {each["reason"] for each in reaper.json("explain", job)["left"]} for job in expected}
    assert shown == expected
    assert "left (hold)" in reaper("explain", held).stdout and "Ann looks" in reaper("explain", held).stdout
    checked = reaper("check").stdout
    assert all(f"are left ({reason})" in checked for reason in ("hold", "never", "quiet", "cap"))
    assert reaper("sql").exit_code == 0


def test_explain_shows_the_hold_on_a_job_that_is_not_stale(reaper: Reaper, protea: Protea) -> None:
    job = protea.job(age=MINUTE)
    reaper("hold", job, "--for", "3h", "--reason", "Ann looks")
    assert "Ann looks" in reaper("explain", job).stdout


# --- sweeps -------------------------------------------------------------------------------------------------------


def source_with(protea: Protea, store: JobHoldStore, **options: object) -> Source:
    made = SourceOptions(holds=store, **options)  # type: ignore[arg-type]
    return Source("main", protea.url, resolve("protea"), thresholds(), PATIENCE, made)


def hold(protea: Protea, job: str, *, hours: float = 1) -> JobHold:
    return JobHold("main", (job,), protea.now() + timedelta(hours=hours), "ann", "look")


def test_sweep_counts_what_it_keeps_and_the_breaker_does_not(protea: Protea) -> None:
    store = Memory.open(None).holds
    kept = [protea.stale(operation="migrate_a"), protea.stale(operation="migrate_b"), protea.stale()]
    store.add(hold(protea, kept[2]), protea.now())
    ended = protea.stale()
    source = source_with(protea, store, never=("migrate_*",))
    report = protea.sweep(source, breaker=Breaker(2, 0.5))
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1) and protea.status(ended) == "failed"
    assert report.census is not None and (report.census.stale, report.census.kept) == (4, 3)
    assert report.stale_remaining == 0
    assert {job.key[0]: job.hold for job in report.kept} == {kept[0]: False, kept[1]: False, kept[2]: True}


def test_dry_run_leaves_out_what_is_kept(protea: Protea) -> None:
    store, held, other = Memory.open(None).holds, protea.stale(), protea.stale()
    store.add(hold(protea, held), protea.now())
    report = protea.sweep(source_with(protea, store), dry_run=True)
    assert [job.key for job in report.would_reap] == [(other,)]


def test_hold_that_is_taken_during_a_sweep_holds_its_later_batches(protea: Protea) -> None:
    store = Memory.open(None).holds
    jobs = [protea.stale() for _ in range(6)]
    calls = 0

    def stopping() -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:  # after the survey, before the first batch
            for job in jobs[:3]:
                store.add(hold(protea, job), protea.now())
        return False

    report = protea.sweep(source_with(protea, store), batch_size=1, stopping=stopping)
    assert [protea.status(job) for job in jobs] == ["running"] * 3 + ["failed"] * 3
    assert report.census is not None and report.census.kept == 3 and report.stale_remaining == 0


def test_sweep_that_cannot_read_the_holds_ends_nothing(protea: Protea, tmp_path: Path) -> None:
    job, path = protea.stale(), tmp_path / FILE
    path.mkdir()
    report = protea.sweep(source_with(protea, JobHoldStore(StateFile(path))))
    assert report.outcome is Outcome.FAILED and str(path) in str(report.error)
    assert protea.status(job) == "running"


KINDS = [
    ("migrate_*", "migrate_index", True),
    ("migrate_*", "migrate_", True),
    ("migrate_*", "migrateXindex", False),  # no wildcard of SQL
    ("migrate_*", "MIGRATE_index", False),
    ("migrate_*", "no migrate_index", False),
    ("100%", "100 apples", False),
    ("100%", "100%", True),
    ("!*", "!x", True),
    ("!*", "x", False),
    ("back\\slash?", "back\\slash1", True),
    ("back\\slash?", "back\\slash", False),
    ("*", "anything", True),
    ("embed", "embedding", False),
    ("über*", "übersetzen", True),
    ("uber*", "übersetzen", False),
]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_never_matches_whole_kinds_alike_on_both_servers(request: pytest.FixtureRequest, where: str) -> None:
    with world_on(request, ProteaWorld, where) as world:
        kept, ended = world.stale_job(), world.stale_job()
        world.session.do("UPDATE job SET operation = 'migrate_index' WHERE id = %s", kept)
        source = world.source()
        found = {
            (pattern, kind): matches(source, sql.matches_glob(sql.text_of(literal(kind)), pattern))
            for pattern, kind, _ in KINDS
        }
        assert found == {(pattern, kind): matched for pattern, kind, matched in KINDS}
        options = replace(world.source_options(), never=("backup_*", "migrate_*"))
        report = world.sweep(Source("main", world.database.url, resolve("protea"), thresholds(), PATIENCE, options))
        assert (report.reaped, [job.key for job in report.kept]) == (1, [(kept,)])
        assert (world.state(kept), world.state(ended)) == (State.RUNNING, State.REAPED)


def matches(source: Source, condition: ColumnElement[bool]) -> bool:
    with source.connect() as connection, source.transaction(connection, read_only=True):
        return bool(connection.execute(select(condition)).scalar_one())


# --- the store ----------------------------------------------------------------------------------------------------


def test_daemon_sees_what_a_command_holds_and_takes_back(tmp_path: Path, protea: Protea) -> None:
    daemon, command = Memory.open(tmp_path).holds, kept_holds(tmp_path)
    now = protea.now()
    for _ in range(20):  # writes that may leave the same time and size of the file
        command.add(JobHold("main", ("1",), now + timedelta(hours=1), "ann", "look"), now)
        assert list(daemon.of("main")) == [("1",)]
        command.remove("main", ("1",))
        assert not daemon.of("main")


def test_hold_survives_a_restart_and_is_of_one_source(tmp_path: Path, protea: Protea) -> None:
    job = protea.stale()
    take_hold(protea.source(), DowntimeTracker(0), Memory.open(tmp_path).holds, job, HOUR, "ann", "look")
    again = Memory.open(tmp_path).holds
    assert again.of("other") == {} and again.of("main")[(job,)].reason == "look"


def test_further_hold_is_refused_and_none_is_dropped_when_there_is_no_room(tmp_path: Path, protea: Protea) -> None:
    store, now = Memory.open(tmp_path).holds, protea.now()
    for number in range(MAX_HOLDS):
        store.add(JobHold("main", (str(number),), now + timedelta(seconds=MINUTE + number), "ann", "look"), now)
    late = JobHold("main", ("late",), now + timedelta(hours=1), "ann", "look")
    with pytest.raises(StateUnavailable, match="1000 jobs are held already"):
        store.add(late, now)
    assert len(store.of("main")) == MAX_HOLDS
    store.add(late, now + timedelta(seconds=MINUTE + 1))  # the first one is over
    assert ("late",) in store.of("main")
