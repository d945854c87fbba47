"""Least privilege: the printed grants are enough, none of them is too much, and `check` reports each that is missing.

The tests of `profile/test_shipped_profiles` run as such a role, in every world. Here its privileges are revoked one at
a time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy.exc import DBAPIError

from reaper.check import Finding, Level, Workload, examine
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.fence.installation import FenceAction, apply_plan, plan_change
from reaper.model import LockHolder
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.purge import PurgeOptions, purge
from reaper.operations.report import ReportQuery, report
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.checks import STALL, problems
from tests.support.protea import HOUR, SweepRecorder
from tests.support.purges import PurgeRecorder
from tests.support.worlds import State, World
from tests.support.worlds.servers import PLACES, only_where, place_id, repeats_a_shape


@dataclass(frozen=True, order=True)
class Privilege:
    """One privilege on one object, or on one of its columns."""

    name: str
    column: str
    on: str

    def revoke_from(self, role: str) -> str:
        return f"REVOKE {self} ON {self.on} FROM {role}"

    def grant_to(self, role: str) -> str:
        return f"GRANT {self} ON {self.on} TO {role}"

    def __str__(self) -> str:
        return f"{self.name} ({self.column})" if self.column else self.name


def privileges(statement: str | None) -> Iterator[Privilege]:
    """The privileges that a GRANT gives."""
    if statement and (grant := re.fullmatch(r"GRANT (.*) ON (.*) TO \S+;", statement)):
        for name, columns in re.findall(r"([A-Z]+(?: [A-Z]+)*)(?: \(([^)]*)\))?(?:, |$)", grant[1]):
            for column in columns.split(", "):
                yield Privilege(name, column, grant[2].removeprefix("TABLE "))


def granted(world: World, *extras: str, workload: Workload | None = None) -> list[Privilege]:
    """The privileges of the world's role."""
    return sorted({p for sql in world.grants("nobody", workload).statements(extras) for p in privileges(sql)})


def checked(world: World, workload: Workload | None = None) -> list[Finding]:
    """The findings of `check`, run as the role."""
    source = world.source()
    with source.connect(prepared=False) as connection:
        return examine(connection, source.configured_profile, STALL, workload=workload or Workload(world.action))


def privileges_in_fixes(findings: list[Finding]) -> set[Privilege]:
    return {privilege for finding in findings for privilege in privileges(finding.fix)}


@contextmanager
def without(world: World, role: str, privilege: Privilege) -> Iterator[None]:
    """The role lacks the privilege inside the block."""
    account = f"{role}{world.database.host}"
    world.session.do(privilege.revoke_from(account))
    try:
        yield
    finally:
        world.session.do(privilege.grant_to(account))


# --- everything that a daemon does ------------------------------------------------------------------------------------


def refusals(world: World) -> Iterator[str]:
    """What the database refuses of the daemon's work, and what the daemon has to leave out."""
    source = world.source()
    world.alive_job()
    job = world.stale_job()
    for work in (_report, _explain, _name_row_holder, _sweep, _post_transition):
        try:
            yield from work(world, source, job)
        except (DBAPIError, ReaperError) as error:
            yield f"{work.__name__}: {error}"


def _report(world: World, source: Source, job: str) -> list[str]:
    result = report(source, DowntimeTracker(0), ReportQuery(None, None, 50))
    with source.connect() as connection, source.transaction(connection, read_only=True):
        if source.profile.task:
            source.lookup.existing_tasks(connection, ["no such task"])
    return list(result.notes)


def _explain(world: World, source: Source, job: str) -> list[str]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            key = source.lookup.find(connection, [job])
            assert key is not None and source.lookup.evidence(connection, source.ask_probe(context), [key])
            source.lookup.audits(connection, key)
    return []


def _name_row_holder(world: World, source: Source, job: str) -> list[str]:
    """A worker holds the job's row, and rolls back."""
    if world.database.host or source.profile.jobs.log:
        return []  # MariaDB needs a privilege on the whole server for it; a log has no rows to hold
    with world.database.session() as worker, source.connect() as connection:
        assert world.finish(job, worker)
        holder = source.lock_holder(connection, (job,))
        worker.rollback()
        found: list[tuple[LockHolder | None, str | None]] = [(holder, None)]
        for part in source.profile.jobs.parts:
            if worker.ask(f'SELECT 1 FROM "{part.table}" FOR UPDATE'):
                found.append((source.lock_holder(connection, (job,)), part.table))
            worker.rollback()
    named = all(holder and (holder.pid, holder.table) == (worker.number, table) for holder, table in found)
    return [] if named else ["the holder of the row is not named"]


def _sweep(world: World, source: Source, job: str) -> list[str]:
    report = world.sweep(source)
    left = [] if report.error or world.state(job) is State.REAPED else [f"{job} was not ended"]
    return [*([report.error] if report.error else []), *(failure.error for failure in report.failures), *left]


def _post_transition(world: World, source: Source, job: str) -> list[str]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            source.post_transition.snapshots(connection, context, [(job,)])
    return []


# --- enough, and not too much -------------------------------------------------------------------------------------


def only_in(*ids: str, repeats: Collection[str] = ()) -> pytest.MarkDecorator:
    """Run a test only in these places; in those of `repeats` only with --thorough."""
    places = [place for place in PLACES if place_id(place) in {*ids, *repeats}]
    assert len(places) == len(ids) + len(repeats)
    marked = [
        pytest.param(place, marks=[pytest.mark.thorough] if place_id(place) in repeats else []) for place in places
    ]
    return pytest.mark.parametrize("world", marked, ids=place_id, indirect=True)


def repeats_grants(world: type[World]) -> bool:
    """Whether the sweeps of tests/profile, as such a role, are enough without --thorough."""
    return repeats_a_shape(world) or world.profile == "vuls-schedule"


@only_where(lambda world: world.action == "fail", long=True, repeats=repeats_grants)
def test_printed_grants_suffice_and_each_that_is_removed_is_named_by_check_and_missed_by_the_daemon(
    world: World, thorough: bool
) -> None:
    """Each privilege is revoked, column by column; without `--thorough` every tenth, others in each world."""
    with world.restricted() as role:
        privileges_of_role = granted(world)
        assert list(refusals(world)) == []
        findings = checked(world)
        assert not privileges_in_fixes(findings) & set(privileges_of_role)
        assert len(privileges_of_role) > 8
        tables_of_role = {(privilege.name, privilege.on) for privilege in privileges_of_role}
        tenth = privileges_of_role[len(world.profile + world.action) % 9 :: 10]
        for privilege in privileges_of_role if thorough else tenth:
            with without(world, role, privilege):
                if privilege.name == "CONNECT":
                    with pytest.raises(DatabaseUnavailable, match="permission denied for database"):
                        checked(world)
                    continue
                lacking = checked(world)
                # MariaDB shows the structure of a table to users with DELETE, too.
                if not (privilege.name == "REFERENCES" and ("DELETE", privilege.on) in tables_of_role):
                    assert privilege in privileges_in_fixes(lacking), (privilege, lacking)
                # Only `check` needs REFERENCES, and what is optional is left out.
                if privilege.name != "REFERENCES" and privilege.on not in world.optional:
                    assert next(refusals(world), None) is not None, privilege
        assert list(refusals(world)) == []
    assert problems(findings) == problems(checked(world)), (
        "the rest is about the profile, and the owner gets it as well"
    )


def _about(finding: Finding, tables: Collection[str]) -> bool:
    return any(finding.subject == table or finding.subject.startswith(f"{table}.") for table in tables)


@only_where(lambda _: True, long=True, repeats=repeats_grants)
def test_check_prints_for_a_role_without_privileges_what_grants_prints(world: World) -> None:
    with world.restricted() as role:
        printed = {privilege for privilege in granted(world) if privilege.name != "CONNECT"}
        for privilege in printed:
            world.session.do(privilege.revoke_from(f"{role}{world.database.host}"))
        if world.database.host:  # MariaDB refuses a connection to a database without any privilege in it
            world.session.do(f"GRANT CREATE TEMPORARY TABLES ON *.* TO {role}{world.database.host}")
        findings = checked(world)
        lacking = [
            finding
            for finding in findings
            if finding.level is Level.ERROR or "xmax" in finding.message or _about(finding, world.optional)
        ]
        assert privileges_in_fixes(lacking) == printed


# --- optional grants -----------------------------------------------------------------------------------------


@only_in("protea-fail-postgresql", "protea-fail-mariadb", repeats=("vuls-fail-postgresql", "vuls-fail-mariadb"))
def test_purge_needs_each_of_its_privileges(world: World) -> None:
    """A missing privilege is a note without a purge schedule, and an error with a schedule."""
    purging = Workload(world.action, purge=True)
    extra = sorted(set(granted(world, "purge")) - set(granted(world)))
    assert extra and set(granted(world, workload=purging)) == set(granted(world, "purge"))
    with world.restricted("purge") as role:
        assert _purged(world) is None
        for privilege in extra:
            with without(world, role, privilege):
                assert privilege in privileges_in_fixes(problems(checked(world, purging))), privilege
                noted = checked(world)
                assert privilege in privileges_in_fixes(noted), privilege
                assert privilege not in privileges_in_fixes(problems(noted)), privilege
                if privilege.name != "REFERENCES":
                    assert _purged(world) is not None, privilege
        assert not privileges_in_fixes(checked(world, purging)) & set(granted(world, "purge"))


def _purged(world: World) -> str | None:
    """Why a purge fails; None when it works."""
    job = world.job(age=9 * HOUR, sign=None)
    assert world.finish(job, world.session)
    # A cutoff of tomorrow: the end of this job, in a column without a zone, is before it in every zone.
    report = purge(world.source(), PurgeOptions(-1, 10), PurgeRecorder())
    return report.error if report.error or report.purged else f"{report.found} found, {report.purged} deleted"


@only_in("adhese-fail-postgresql", repeats=["adhese-fail-mariadb"])
def test_other_actions_are_noted_by_check_and_work_once_granted(world: World) -> None:
    decision = ManualEnd("an operator", "test-host", "because", "delete")
    with world.restricted() as role:
        deletes = set(granted(world, "actions")) - set(granted(world))
        assert {privilege.name for privilege in deletes} == {"DELETE", "SELECT"}
        findings = checked(world)
        assert deletes <= privileges_in_fixes(findings) and not deletes & privileges_in_fixes(problems(findings))
        assert any("`reaper fail --action` cannot delete" in finding.message for finding in findings)
        job = world.stale_job()
        with pytest.raises(DBAPIError):
            fail(world.source(), DowntimeTracker(0), (job,), decision, SweepRecorder())
        for privilege in deletes:
            world.session.do(privilege.grant_to(f"{role}{world.database.host}"))
        assert fail(world.source(), DowntimeTracker(0), (job,), decision, SweepRecorder()).key == (job,)
        assert not deletes & privileges_in_fixes(checked(world))


@only_in("protea-fail-mariadb", "protea-fail-postgresql")
def test_fence_installed_by_the_role_lets_sweeps_and_workers_through(world: World) -> None:
    """On MariaDB it runs with the privileges of the user who installed it, whichever user writes."""
    with world.restricted("fence"):
        apply_plan(world.source(), plan_change(world.source(), FenceAction.INSTALL))
        assert list(refusals(world)) == []
        job = world.stale_job()
        world.sweep()
        world.session.do("UPDATE job SET status = 'succeeded' WHERE id = %s", job)
        assert world.state(job) is State.REAPED
        young = world.young_job()
        assert world.finish(young, world.session) and world.state(young) is State.FINISHED
        apply_plan(world.source(), plan_change(world.source(), FenceAction.REMOVE))
