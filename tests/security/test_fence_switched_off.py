"""A fence that no longer holds back late writes is seen: by `fence status`, by `check`, and by what would mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from reaper.check.checks.fence import check_fence
from reaper.fence.installation import FenceAction, FenceState, fence_status, plan_change
from tests.fence.test_installation import write_late
from tests.support.commands import Reaper
from tests.support.fences import install, state
from tests.support.protea import Protea

ROLE = "fence_switched_off"
SETTINGS = {
    "ALTER DATABASE {database} SET reaper.fence = 'off'": "ALTER DATABASE {database} RESET reaper.fence",
    "ALTER DATABASE {database} SET Reaper.Fence = 'off'": "ALTER DATABASE {database} RESET reaper.fence",
    "ALTER ROLE {role} SET reaper.fence = 'off'": "ALTER ROLE {role} RESET reaper.fence",
    "ALTER ROLE {role} IN DATABASE {database} SET reaper.fence = off": (
        "ALTER ROLE {role} IN DATABASE {database} RESET reaper.fence"
    ),
    "ALTER ROLE ALL SET reaper.fence = 'off'": "ALTER ROLE ALL RESET reaper.fence",
}


@pytest.fixture
def role(protea: Protea) -> str:
    protea.connection.execute(f"DROP ROLE IF EXISTS {ROLE}".encode())
    protea.connection.execute(f"CREATE ROLE {ROLE}".encode())
    return ROLE


def test_fence_that_is_switched_off_by_a_setting_is_seen_with_what_switches_it_on(
    protea: Protea, role: str, tmp_path: Path
) -> None:
    source, reaper = protea.source(), Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url})
    names = {"database": sql.Identifier(protea.connection.info.dbname), "role": sql.Identifier(role)}
    install(source)
    assert list(check_fence(source)) == []
    for setting, reset in SETTINGS.items():
        protea.connection.execute(sql.SQL(setting).format(**names))
        expected = sql.SQL(reset).format(**names).as_string()
        status = fence_status(source)
        assert (status.state, status.switched_off) == (FenceState.DISABLED, [expected])
        [finding] = check_fence(source)
        assert (finding.level, finding.fix) == ("warning", expected)
        plan = plan_change(source, FenceAction.INSTALL)
        assert plan.change.statements == () and expected in plan.notes[-1]
        protea.connection.execute(expected.encode())
        assert state(source) is FenceState.INSTALLED
    protea.connection.execute(sql.SQL("ALTER ROLE {role} SET reaper.fence = 'off'").format(**names))
    seen = reaper("fence", "status")
    assert seen.exit_code == 1 and "disabled" in seen.output and "switched off" in seen.output
    checked = reaper("check")
    assert "the fence is switched off: late writes are not held back" in checked.output
    assert f'ALTER ROLE "{role}" RESET reaper.fence' in checked.output
    protea.connection.execute(f"DROP ROLE {role}".encode())


def test_settings_that_do_not_switch_the_fence_off_are_let_be(protea: Protea, role: str) -> None:
    source = protea.source()
    names = {"database": sql.Identifier(protea.connection.info.dbname), "role": sql.Identifier(role)}
    install(source)
    for setting in (
        "ALTER DATABASE {database} SET reaper.fence = 'on'",
        "ALTER ROLE {role} IN DATABASE template1 SET reaper.fence = 'off'",
        "ALTER ROLE {role} SET reaper.fences = 'off'",
    ):
        protea.connection.execute(sql.SQL(setting).format(**names))
    assert state(source) is FenceState.INSTALLED
    protea.connection.execute(f"DROP ROLE {role}".encode())


def test_session_that_begins_with_the_fence_off_without_a_setting_of_a_role_is_seen(protea: Protea) -> None:
    install(protea.source())
    mark = "&" if "?" in protea.url else "?"
    begun_off = Protea(f"{protea.url}{mark}options=-creaper.fence%3Doff", protea.connection).source()
    status = fence_status(begun_off)
    assert status.state is FenceState.DISABLED and "server's configuration" in status.switched_off[0]


CHANGED = [
    "ALTER FUNCTION reaper_fence_job() SECURITY DEFINER",
    "ALTER FUNCTION reaper_fence_job() RESET search_path",
    "ALTER FUNCTION reaper_fence_job() RESET ALL",
    "ALTER FUNCTION reaper_fence_job() SET search_path = public, pg_catalog",
    "ALTER FUNCTION reaper_fence_job() SET session_replication_role = replica",
]


@pytest.mark.parametrize("change", CHANGED)
def test_function_that_runs_with_other_rights_or_another_path_is_outdated_and_replaced(
    protea: Protea, change: str
) -> None:
    source = protea.source()
    job = protea.stale()
    protea.sweep()
    install(source)
    protea.connection.execute(change.encode())
    assert state(source) is FenceState.OUTDATED
    [finding] = check_fence(source)
    assert finding.level == "warning" and finding.fix == f"reaper fence install --source {source.name}"
    assert install(source) is FenceState.INSTALLED and list(check_fence(source)) == []
    assert write_late(protea, job) == "failed"


def test_check_says_nothing_of_a_fence_that_is_not_there_or_cannot_be_read(protea: Protea) -> None:
    assert list(check_fence(protea.source())) == []
    protea.connection.execute("ALTER TABLE job RENAME TO task")
    assert list(check_fence(protea.source())) == []
