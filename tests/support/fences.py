"""Helpers to install and remove fences."""

from __future__ import annotations

from pathlib import Path

import reaper
from reaper.fence.installation import FenceAction, FenceState, apply_plan, fence_status, plan_change
from reaper.profile import Profile, resolve
from reaper.source import Source
from tests.profile.test_injection import MARK, VALUE
from tests.support.protea import PATIENCE, Protea, thresholds

MARIADB_TABLES = Path(reaper.__file__).parent / "profiles" / "protea.mariadb.sql"
CATALOGS = ("pg_proc", "pg_trigger", "pg_depend", "pg_description")


def catalog_rows(protea: Protea) -> dict[str, list[str]]:
    """The rows of the catalogs in which a fence could leave something behind."""
    return {
        name: [str(row[0]) for row in protea.connection.execute(f"SELECT c::text FROM {name} c ORDER BY 1".encode())]
        for name in CATALOGS
    }


def source_of(url: str, profile: Profile | str = "protea") -> Source:
    return Source("main", url, resolve(profile) if isinstance(profile, str) else profile, thresholds(), PATIENCE)


def install(source: Source) -> FenceState:
    return apply_plan(source, plan_change(source, FenceAction.INSTALL)).state


def remove(source: Source) -> FenceState:
    return apply_plan(source, plan_change(source, FenceAction.REMOVE)).state


def state(source: Source) -> FenceState:
    return fence_status(source).state


def odd_profile(name: str) -> tuple[Profile, dict[str, str]]:
    """A profile whose names all contain `name`, and its columns by their roles in the profile."""

    def spelled(end: str) -> str:
        return name.encode()[: 63 - len(MARK) - len(end)].decode(errors="ignore") + MARK + end

    columns = {role: spelled(role) for role in ("id", "state", "begun", "token", "why", "note", "flag", "count", "far")}
    value = f"{MARK} {VALUE} $fence$ \\' "
    table = {
        "jobs": {
            "table": f"odd.{spelled('T')}",
            "key": columns["id"],
            "started": columns["begun"],
            "claim": [columns["token"]],
            "running": {
                "column": columns["state"],
                "in": [f"on {value}"],
                "where": [{"column": columns["flag"], "in": [True]}, {"column": columns["count"], "in": [0]}],
            },
        },
        "actions": {
            "fail": {
                "set": {
                    columns["state"]: f"off {value}",
                    columns["flag"]: False,
                    columns["count"]: 7,
                    columns["far"]: 1.5,
                    columns["why"]: {"is": "reason"},
                    columns["note"]: value,
                }
            }
        },
        "fence": {"again": [f"again {value}", value]},
    }
    return resolve("odd", {"odd": table}), {**columns, "T": spelled("T"), "value": value}
