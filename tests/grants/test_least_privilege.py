"""Least privilege: what `reaper grants` prints is enough, nothing of it is too much, and `check` misses what is gone.

The whole suite of `test_behaviour` works as such a role, in every world. Here the privileges are taken away again, one
at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy.exc import DBAPIError

from reaper.check import Finding, Level, Workload, examine
from reaper.database.row_holders import holder_of
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.fence.operations import FenceAction, apply_plan, plan_change
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.purge import PurgeOptions, purge
from reaper.operations.report import ReportQuery, report
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.operations.test_purge import Told
from tests.support.checks import (
    STALL,
    problems,
)
from tests.support.protea import HOUR, Heard
from tests.support.worlds import State, World
from tests.support.worlds.servers import PLACES, called


@dataclass(frozen=True, order=True)
class Privilege:
    """One privilege on one thing, or on one of its columns."""

    name: str
    column: str
    on: str

    def taken_from(self, role: str) -> str:
        return f"REVOKE {self} ON {self.on} FROM {role}"

    def given_to(self, role: str) -> str:
        return f"GRANT {self} ON {self.on} TO {role}"

    def __str__(self) -> str:
        return f"{self.name} ({self.column})" if self.column else self.name


def privileges(statement: str | None) -> Iterator[Privilege]:
    """Each of those that a GRANT gives."""
    if statement and (found := re.fullmatch(r"GRANT (.*) ON (.*) TO \S+;", statement)):
        for name, columns in re.findall(r"([A-Z]+(?: [A-Z]+)*)(?: \(([^)]*)\))?(?:, |$)", found[1]):
            for column in columns.split(", "):
                yield Privilege(name, column, found[2].removeprefix("TABLE "))


def granted(world: World, *extras: str, workload: Workload | None = None) -> list[Privilege]:
    """What the world's role has."""
    return sorted({each for sql in world.grants("nobody", workload).statements(extras) for each in privileges(sql)})


def checked(world: World, workload: Workload | None = None) -> list[Finding]:
    """What `check` says, asked as the role."""
    source = world.source()
    with source.connect() as connection:
        return examine(connection, source.profile, STALL, workload=workload or Workload(world.action))


def named_in(findings: list[Finding]) -> set[Privilege]:
    return {each for finding in findings for each in privileges(finding.fix)}


@contextmanager
def without(world: World, role: str, one: Privilege) -> Iterator[None]:
    """The role lacks it meanwhile."""
    account = f"{role}{world.database.host}"
    world.hand.do(one.taken_from(account))
    try:
        yield
    finally:
        world.hand.do(one.given_to(account))


# --- everything that a daemon does ------------------------------------------------------------------------------------


def troubles(world: World) -> Iterator[str]:
    """What of it the database refuses, or what is left out; nothing is done that was not asked for."""
    source = world.source()
    world.alive_job()
    job = world.stale_job()
    for what in (_reported, _told_of, _held, _swept, _looked_back):
        try:
            yield from what(world, source, job)
        except (DBAPIError, ReaperError) as error:
            yield f"{what.__name__}: {error}"


def _reported(world: World, source: Source, job: str) -> list[str]:
    result = report(source, DowntimeTracker(0), ReportQuery(None, None, 50))
    with source.connect() as connection, source.transaction(connection, read_only=True):
        if source.profile.task:
            source.lookup.tasks(connection, ["nobody's"])
    return list(result.notes)


def _told_of(world: World, source: Source, job: str) -> list[str]:
    """`explain`."""
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            key = source.lookup.find(connection, [job])
            assert key is not None and source.lookup.evidence(connection, source.ask_probe(context), [key])
            source.lookup.audits(connection, key)
    return []


def _held(world: World, source: Source, job: str) -> list[str]:
    """A worker finishes it, and takes that back."""
    if world.database.host or source.profile.jobs.log:
        return []  # on MariaDB that takes a privilege which is not for one database alone; a log has no rows to hold
    with world.database.session() as worker, source.connect() as connection:
        assert world.finish(job, worker)
        with source.transaction(connection, read_only=True):
            holder = holder_of(connection, source.rule.tables, (job,))
        worker.rollback()
    return [] if holder and holder.pid == worker.number else ["who holds a row is not told"]


def _swept(world: World, source: Source, job: str) -> list[str]:
    report = world.sweep(source)
    left = [] if report.error or world.state(job) is State.REAPED else [f"{job} was not ended"]
    return [*([report.error] if report.error else []), *(failure.error for failure in report.failures), *left]


def _looked_back(world: World, source: Source, job: str) -> list[str]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            source.follow_up.look(connection, context, [(job,)])
    return []


# --- enough, and nothing too much -------------------------------------------------------------------------------------


def only_where(*ids: str) -> pytest.MarkDecorator:
    places = [place for place in PLACES if called(place) in ids]
    assert len(places) == len(ids)
    return pytest.mark.parametrize("world", places, ids=called, indirect=True)


def test_printed_grants_suffice_for_the_daemon_and_check_finds_nothing_missing(world: World) -> None:
    with world.restricted():
        assert list(troubles(world)) == []
        findings = checked(world)
        assert not named_in(findings) & set(granted(world))
    assert problems(findings) == problems(checked(world)), "what the owner is told of is the profile's own"


def test_removed_privilege_is_named_by_check_and_missed_by_the_daemon(world: World, thorough: bool) -> None:
    """Each of them, column by column: what nobody misses has no place among them.

    Without time one in three, and not everywhere the same ones.
    """
    with world.restricted() as role:
        mine = granted(world)
        assert len(mine) > 8
        for one in mine if thorough else mine[len(world.profile + world.action) % 3 :: 3]:
            with without(world, role, one):
                if one.name == "CONNECT":
                    with pytest.raises(DatabaseUnavailable, match="permission denied for database"):
                        checked(world)
                    continue
                findings = checked(world)
                assert one in named_in(findings), (one, findings)
                if one.name != "REFERENCES":  # which only `check` is for
                    assert next(troubles(world), None) is not None, one
        assert list(troubles(world)) == []


def test_check_prints_for_a_role_without_privileges_what_grants_prints(world: World) -> None:
    with world.restricted() as role:
        printed = {one for one in granted(world) if one.name != "CONNECT"}
        for one in printed:
            world.hand.do(one.taken_from(f"{role}{world.database.host}"))
        if world.database.host:  # where who may see nothing of a database may not even come in
            world.hand.do(f"GRANT CREATE TEMPORARY TABLES ON *.* TO {role}{world.database.host}")
        findings = checked(world)
        told = [f for f in findings if f.level is Level.ERROR or "xmax" in f.message]
        assert named_in(told) == printed


# --- what not everybody wants -----------------------------------------------------------------------------------------


PURGING = ("protea-fail-postgresql", "protea-fail-mariadb", "vuls-fail-postgresql", "vuls-fail-mariadb")


@only_where(*PURGING)
def test_purge_needs_each_of_its_privileges(world: World) -> None:
    """They are noted where nobody purges on schedule, and wrong where somebody does."""
    extra = sorted(set(granted(world, "purge")) - set(granted(world)))
    assert extra and set(granted(world, workload=Workload(world.action, purge=True))) == set(granted(world, "purge"))
    with world.restricted("purge") as role:
        assert _purged(world) is None
        for one in extra:
            with without(world, role, one):
                assert one in named_in(problems(checked(world, Workload(world.action, purge=True)))), one
                noted = checked(world)
                assert one in named_in(noted) and one not in named_in(problems(noted)), one
                if one.name != "REFERENCES":
                    assert _purged(world) is not None, one
        assert not named_in(checked(world, Workload(world.action, purge=True))) & set(granted(world, "purge"))


def _purged(world: World) -> str | None:
    """What is in the way of a purge; None when nothing is."""
    job = world.job(age=9 * HOUR, sign=None)
    assert world.finish(job, world.hand)
    report = purge(world.source(), PurgeOptions(1e-9, 10), Told())
    return report.error if report.error or report.purged else f"{report.found} found, {report.purged} deleted"


@only_where("adhese-fail-postgresql", "adhese-fail-mariadb")
def test_other_actions_are_noted_by_check_and_work_once_granted(world: World) -> None:
    decision = ManualEnd("somebody", "test-host", "because", "delete")
    with world.restricted() as role:
        deletes = set(granted(world, "actions")) - set(granted(world))
        assert {one.name for one in deletes} == {"DELETE"}
        findings = checked(world)
        assert deletes <= named_in(findings) and not deletes & named_in(problems(findings))
        assert any("`reaper fail --action` cannot delete" in finding.message for finding in findings)
        job = world.stale_job()
        with pytest.raises(DBAPIError):
            fail(world.source(), DowntimeTracker(0), (job,), decision, Heard())
        for one in deletes:
            world.hand.do(one.given_to(f"{role}{world.database.host}"))
        assert fail(world.source(), DowntimeTracker(0), (job,), decision, Heard()).key == (job,)
        assert not deletes & named_in(checked(world))


@only_where("protea-fail-mariadb", "protea-fail-postgresql")
def test_fence_installed_by_the_role_lets_sweeps_and_workers_through(world: World) -> None:
    """On MariaDB it works with the rights of who installed it, whoever writes."""
    with world.restricted("fence"):
        apply_plan(world.source(), plan_change(world.source(), FenceAction.INSTALL))
        assert list(troubles(world)) == []
        job = world.stale_job()
        world.sweep()
        world.hand.do("UPDATE job SET status = 'succeeded' WHERE id = %s", job)
        assert world.state(job) is State.REAPED
        young = world.young_job()
        assert world.finish(young, world.hand) and world.state(young) is State.FINISHED
        apply_plan(world.source(), plan_change(world.source(), FenceAction.REMOVE))
