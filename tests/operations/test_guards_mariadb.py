"""On MariaDB: a hold, a quiet time and the cap leave jobs as on PostgreSQL, and `diff` judges them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from reaper.memory import Memory
from tests.support.commands import Reaper
from tests.support.mariadb import MariaDB
from tests.support.protea import HOUR, MINUTE
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.world import State
from tests.sweep.test_quiet_times import around


@pytest.fixture(scope="module")
def tables(mariadb: MariaDB) -> Iterator[ProteaWorld]:
    with ProteaWorld.create(MariaDBDatabase(mariadb.create_database("guards"))) as made:
        yield made
    mariadb.drop_database("guards")


@pytest.fixture
def world(tables: ProteaWorld) -> ProteaWorld:
    tables.session.do("DELETE FROM job_event")
    tables.session.do("DELETE FROM job")
    return tables


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: ProteaWorld) -> Reaper:
    monkeypatch.chdir(tmp_path)
    assert Memory.open(tmp_path / "state").path
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": world.database.url, "REAPER_STATE_DIR": str(tmp_path / "state")})


def swept(reaper: Reaper, *words: str, code: int = 0) -> str:
    [source] = reaper.json("sweep", "--yes", *words, code=code)["sources"]
    return f"{source['outcome']} {source['reaped']}"


def test_job_that_is_held_is_left_by_sweep_and_fail_until_the_hold_is_taken_back(
    reaper: Reaper, world: ProteaWorld
) -> None:
    held, other = world.stale_job(), world.stale_job()
    assert reaper.json("hold", held, "--for", "3h", "--reason", "Ann looks")["notes"] == []
    assert swept(reaper) == "done 1" and world.state(other) is State.REAPED
    refused = reaper("fail", held, "--yes", "--reason", "its node is gone")
    assert refused.exit_code == exit_codes.FAILED and f"`reaper unhold {held} " in refused.stderr
    assert [left["reason"] for left in reaper.json("explain", held)["left"]] == ["hold"]
    assert world.state(held) is State.RUNNING
    assert reaper("unhold", held).exit_code == 0
    assert swept(reaper) == "done 1" and world.state(held) is State.REAPED


def test_quiet_time_ends_nothing_and_its_silence_does_not_count(reaper: Reaper, world: ProteaWorld) -> None:
    job = world.stale_job()
    now = world.session.one("SELECT UTC_TIMESTAMP()")
    assert isinstance(now, datetime)
    now = now.replace(tzinfo=UTC)
    reaper.given["REAPER_QUIET"] = around(now, 2 * MINUTE, 2 * HOUR)
    assert swept(reaper, code=exit_codes.FAILED) == "quiet 0" and world.state(job) is State.RUNNING
    spared = world.job(age=7 * HOUR, sign=40 * MINUTE)
    reaper.given["REAPER_QUIET"] = around(now, 35 * MINUTE, -2 * MINUTE)
    assert reaper.json("explain", spared)["job"]["verdict"] == "spared"
    assert swept(reaper) == "done 1" and world.state(spared) is State.RUNNING
    del reaper.given["REAPER_QUIET"]
    assert swept(reaper) == "done 1" and world.state(spared) is State.REAPED


def test_cap_counts_the_ends_of_a_while_and_holds_the_next_sweep_until_it_is_released(
    reaper: Reaper, world: ProteaWorld
) -> None:
    reaper.given["REAPER_MOST"] = "3 in 10h"
    for _ in range(2):
        world.stale_job()
    assert swept(reaper) == "done 2"
    jobs = [world.stale_job(), world.stale_job()]
    [source] = reaper.json("sweep", "--yes", code=exit_codes.FAILED)["sources"]
    assert (source["outcome"], source["reaped"]) == ("held", 0)
    assert "2 stale job(s) and 2 that were ended lately are more than 3 in 10h" in source["cap"]
    assert {world.state(job) for job in jobs} == {State.RUNNING}
    assert swept(reaper, "--release", "2") == "done 2"
    assert {world.state(job) for job in jobs} == {State.REAPED}


def test_diff_shows_the_jobs_that_a_new_configuration_judges_differently_and_changes_nothing(
    reaper: Reaper, world: ProteaWorld
) -> None:
    world.stale_job()
    soon, kept = world.job(age=3 * HOUR, sign=2 * HOUR), world.job(age=8 * HOUR, sign=2 * HOUR)
    world.session.do("UPDATE job SET operation = 'migrate_index' WHERE id = %s", kept)
    before = world.dump()
    new = reaper.folder / "new.toml"
    new.write_text('[kinds.embed]\ntimeout_seconds = "2h"\n[sources.default]\nnever = [{ kind = "migrate_*" }]\n')
    [source] = reaper.json("diff", "--config", str(new), code=exit_codes.ATTENTION)["sources"]
    assert {job["job"]: (job["present"]["verdict"], job["new"]["verdict"]) for job in source["jobs"]} == {
        soon: ("young", "stale"),
        kept: ("stale", "stale"),
    }
    because = {job["job"]: job["because"] for job in source["jobs"]}
    assert because[soon][0].startswith("timeout: 6h (default) -> 2h (") and because[kept][0].startswith("never ended")
    assert world.dump() == before
