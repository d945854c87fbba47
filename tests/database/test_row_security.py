"""Row-level security: where it may hide signs of life no job is judged, and the fix that is shown helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from reaper.check import Finding, Level, Workload, examine
from reaper.errors import RowsHidden
from reaper.grants.catalog_facts import facts_from_database
from reaper.grants.statements import grants_for
from reaper.model import Outcome, Reason
from reaper.operations import purge as purging
from reaper.operations.close_interrupted import CloseInterruptedOptions, close_interrupted
from reaper.operations.end_in_batches import BulkOptions
from reaper.operations.execution_cleanup import stale_keys
from reaper.operations.explain import explain
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.report import ReportQuery, overdue_jobs, report
from reaper.profile import Profile, resolve
from reaper.profile.related_tables import liveness_tables, purge_guard_tables, task_tables
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.checks import PROTEA, connected, only_problem, problems, protea_with, run_check
from tests.support.protea import HOUR, PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.purges import DAY, PurgeRecorder

EVENTS = [{"witness": "events", "events": {"table": "job_event", "job": "job_id", "at": "ts"}}]
TENANTS = (
    "ALTER TABLE job_event ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY ins ON job_event FOR INSERT WITH CHECK (true)",
    "CREATE POLICY sel ON job_event FOR SELECT USING (current_setting('app.tenant', true) = 'x')",
)


@pytest.fixture
def role(protea: Protea) -> Iterator[str]:
    """A role with the privileges that `reaper grants` prints, and no others."""
    name = f"policed_{protea.connection.info.dbname}"
    with connected(protea.url) as connection:
        grants = grants_for(PROTEA, Workload(), facts_from_database(connection, PROTEA, name))
    do(protea, *grants.statements())
    yield name
    do(protea, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def do(protea: Protea, *statements: str) -> None:
    for statement in statements:
        protea.connection.execute(statement.encode())


def source_of(protea: Protea, role: str, profile: Profile = PROTEA) -> Source:
    return Source("main", url_of(protea, role), profile, thresholds(), PATIENCE)


def url_of(protea: Protea, role: str) -> str:
    return protea.url.replace("postgres@", f"{role}@")


def checked(protea: Protea, role: str, profile: Profile = PROTEA) -> list[Finding]:
    return run_check(url_of(protea, role), profile=profile)


def noted(protea: Protea, role: str) -> list[str]:
    with connected(protea.url) as connection:
        return list(grants_for(PROTEA, Workload(), facts_from_database(connection, PROTEA, role)).notes)


def hidden(protea: Protea, role: str, profile: Profile = PROTEA) -> str | None:
    source = source_of(protea, role, profile)
    with source.connect() as connection:
        return source.begin_evaluation(connection, DowntimeTracker(0)).row_security_reason


# --- what is done ----------------------------------------------------------------------------------------------------


def test_hidden_signs_of_life_end_no_job_and_the_fix_is_shown(protea: Protea, role: str) -> None:
    living, dead = protea.job(age=9 * HOUR), protea.stale()
    protea.event(living, age=5)
    do(protea, *TENANTS)
    policy = f"CREATE POLICY {role} ON public.job_event TO {role} USING (true);"
    least = source_of(protea, role)
    for dry_run in (True, False):
        report = protea.sweep(least, dry_run=dry_run)
        assert (report.outcome, report.database_away, report.leads) == (Outcome.FAILED, False, False)
        assert report.error is not None and f"{report.error};".endswith(f"nothing is judged before {policy}")
        assert report.error.startswith(f"row-level security may hide rows of public.job_event from the role {role!r}")
    assert protea.status(living) == protea.status(dead) == "running"
    [note] = [note for note in noted(protea, role) if note.startswith("job_event")]
    assert note.endswith(f"sweeps judge no job; before the first sweep: {policy}")
    finding = only_problem(checked(protea, role))
    assert (finding.level, finding.subject, finding.fix) == (Level.ERROR, "job_event", policy)
    assert finding.message.endswith("including signs of life, so sweeps judge no job")
    do(protea, policy)
    assert problems(checked(protea, role)) == [] and not [n for n in noted(protea, role) if "row-level" in n]
    assert protea.sweep(least).reaped == 1
    assert (protea.status(living), protea.status(dead)) == ("running", "failed")


def test_restrictive_policy_hides_signs_and_no_other_policy_helps(protea: Protea, role: str) -> None:
    do(protea, *TENANTS, "CREATE POLICY all_of_it ON job_event USING (true)")
    assert hidden(protea, role) is None
    do(protea, "CREATE POLICY narrow ON job_event AS RESTRICTIVE FOR SELECT USING (level <> 'secret')")
    finding = only_problem(checked(protea, role))
    assert (finding.level, finding.fix) == (Level.ERROR, f"ALTER ROLE {role} BYPASSRLS;")
    assert f"{protea.sweep(source_of(protea, role)).error};".endswith(f" {finding.fix}")
    assert any(note.endswith(f" {finding.fix}") for note in noted(protea, role))
    do(protea, finding.fix or "")
    assert problems(checked(protea, role)) == [] and protea.sweep(source_of(protea, role)).outcome is Outcome.DONE


def test_hidden_rows_stop_all_that_uses_the_rule_and_no_operators_decision(protea: Protea, role: str) -> None:
    job = protea.stale()
    do(protea, *TENANTS)
    least, downtime = source_of(protea, role), DowntimeTracker(0)
    bulk = BulkOptions("test-host", 10, SweepRecorder(), lambda: False)
    for asked in (
        lambda: report(least, downtime, ReportQuery(None, None, 50)),
        lambda: overdue_jobs(least, downtime),
        lambda: explain(least, downtime, job),
        lambda: stale_keys(least, downtime),
        lambda: close_interrupted(
            least, downtime, CloseInterruptedOptions(60, 0, lambda _: False, Breaker(50, 0.5)), bulk
        ),
    ):
        with pytest.raises(RowsHidden, match="job_event"):
            asked()
    decision = ManualEnd("an operator", "test-host", "because")
    assert fail(least, downtime, (job,), decision, SweepRecorder()).reason == Reason.MANUAL_TIMEOUT


def test_purge_deletes_no_row_that_a_hidden_row_may_need(protea: Protea, role: str) -> None:
    month = 30 * DAY
    parent = protea.job(status="succeeded", age=4 * month, finished=3 * month)
    child = protea.job(age=60, parent=parent)
    do(
        protea,
        f"GRANT DELETE ON job, job_event TO {role}",
        "ALTER TABLE job ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY finished ON job USING (id = '{parent}')",
    )
    options, least = purging.PurgeOptions(30, 10), source_of(protea, role)
    policy = f"CREATE POLICY {role} ON public.job TO {role} USING (true)"
    report = purging.purge(least, options, PurgeRecorder())
    assert (report.outcome, report.purged, report.database_away) == (Outcome.FAILED, 0, False)
    assert report.error is not None and report.error.endswith(f"so nothing is deleted before {policy}")
    # Also where sweeps have no use for such rows.
    profile = protea_with(alive=EVENTS, purge={"needed": [{"table": "job", "match": {"parent_job_id": "id"}}]})
    assert (hidden(protea, role, profile), purge_guard_tables(profile)) == (None, frozenset({"job"}))
    with connected(url_of(protea, role)) as connection:
        checked = examine(connection, profile, 1800.0, workload=Workload(purge=True))
    assert any(each.level is Level.ERROR and each.message.endswith("so nothing is purged") for each in checked)
    do(protea, policy)
    assert purging.purge(least, options, PurgeRecorder()).outcome is Outcome.DONE
    assert protea.statuses() == {parent: "succeeded", child: "running"}


def test_policy_that_hides_or_refuses_anything_else_is_a_warning(protea: Protea, role: str) -> None:
    """A job that the role cannot see is not ended."""
    profile, shown = protea_with(alive=EVENTS), protea.stale()
    do(
        protea,
        "ALTER TABLE job ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY own ON job USING (id = '{shown}')",
        "ALTER TABLE job_event ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY sel ON job_event FOR SELECT USING (true)",
    )
    unseen = protea.stale()
    jobs, events = problems(checked(protea, role, profile))
    assert (jobs.level, jobs.subject) == (Level.WARNING, "job") and "neither sees nor ends them" in jobs.message
    assert (events.level, events.subject) == (Level.WARNING, "job_event")
    assert "may not let the role" in events.message and " INSERT: " in events.message
    do(protea, events.fix or "")
    assert protea.sweep(source_of(protea, role, profile)).reaped == 1
    assert (protea.status(shown), protea.status(unseen)) == ("failed", "running")
    do(protea, jobs.fix or "")
    assert problems(checked(protea, role, profile)) == []
    assert protea.sweep(source_of(protea, role, profile)).reaped == 1


# --- what may be hidden ----------------------------------------------------------------------------------------------

SECURED = "ALTER TABLE job_event ENABLE ROW LEVEL SECURITY"


POLICIES: Sequence[tuple[list[str], bool]] = [
    ([], True),
    (["CREATE POLICY p ON job_event USING (false)"], True),  # it is not on
    ([SECURED], False),
    ([SECURED, "CREATE POLICY p ON job_event FOR SELECT USING (true)"], True),
    ([SECURED, "CREATE POLICY p ON job_event FOR SELECT USING (level <> 'x')"], False),
    ([SECURED, "CREATE POLICY p ON job_event FOR INSERT WITH CHECK (true)"], False),
    ([SECURED, "CREATE POLICY p ON job_event FOR UPDATE USING (true)"], False),
    ([SECURED, "CREATE POLICY p ON job_event TO pg_monitor USING (true)"], False),
    ([SECURED, "GRANT pg_monitor TO {role}", "CREATE POLICY p ON job_event TO pg_monitor USING (true)"], True),
    (
        [
            SECURED,
            "CREATE POLICY p ON job_event USING (true)",
            "CREATE POLICY q ON job_event AS RESTRICTIVE TO pg_monitor USING (false)",
            "CREATE POLICY r ON job_event AS RESTRICTIVE FOR DELETE USING (false)",
            "CREATE POLICY s ON job_event AS RESTRICTIVE USING (true)",
        ],
        True,
    ),
    ([SECURED, "CREATE POLICY p ON job_event AS RESTRICTIVE USING (true)"], False),  # it permits nothing
    ([SECURED, "ALTER ROLE {role} BYPASSRLS"], True),
    # A running child is a sign of life of its parent.
    (["ALTER TABLE job ENABLE ROW LEVEL SECURITY"], False),
    # These end the test: an owner has other privileges afterwards.
    ([SECURED, "ALTER TABLE job_event OWNER TO {role}"], True),
    ([SECURED, "ALTER TABLE job_event FORCE ROW LEVEL SECURITY"], False),
]


def test_policies_that_are_just_true_count_as_showing_all_rows(protea: Protea, role: str) -> None:
    for statements, shown in POLICIES:
        do(protea, *(statement.format(role=role) for statement in statements))
        assert (hidden(protea, role) is None) is shown, statements
        assert (Level.ERROR not in {finding.level for finding in checked(protea, role)}) is shown, statements
        assert hidden(protea, "postgres") is None, "a superuser sees everything"
        do(
            protea,
            *(f"DROP POLICY IF EXISTS {name} ON job_event" for name in "pqrs"),
            *(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY" for table in ("job", "job_event")),
            f"ALTER ROLE {role} NOBYPASSRLS",
            f"REVOKE pg_monitor FROM {role}",
        )


def test_partitions_are_read_through_the_policies_of_the_table_named(protea: Protea, role: str) -> None:
    do(
        protea,
        "DROP TABLE job_event",
        "CREATE TABLE job_event (job_id uuid, ts timestamptz, level text, event text, message text, fields jsonb)"
        " PARTITION BY RANGE (ts)",
        "CREATE TABLE job_event_all PARTITION OF job_event DEFAULT",
        "ALTER TABLE job_event_all ENABLE ROW LEVEL SECURITY",
        f"GRANT SELECT, INSERT ON job_event TO {role}",
    )
    protea.event(protea.job(age=9 * HOUR), age=5)
    assert hidden(protea, role) is None and protea.sweep(source_of(protea, role)).newly_spared_total == 1
    do(protea, "ALTER TABLE job_event ENABLE ROW LEVEL SECURITY")
    assert "rows of public.job_event from" in (hidden(protea, role) or "")


def test_views_are_read_through_the_policies_for_their_reader(protea: Protea, role: str) -> None:
    """The view's owner reads, or the role with security_invoker. Rows that the view leaves out are not noticed."""
    author = f"{role}_author"
    missing: dict[str, Any] = {"table": "finished", "match": {"job_id": "id"}}
    running = {"column": "status", "in": ["running"], "missing": [missing]}
    profile = protea_with(alive=EVENTS, jobs={"running": running})
    do(
        protea,
        f"CREATE ROLE {author}",
        "CREATE TABLE ends (job_id uuid)",
        "CREATE VIEW inner_view AS SELECT job_id FROM ends",
        "CREATE VIEW finished AS SELECT job_id FROM inner_view WHERE job_id IS NOT NULL",
        f"GRANT SELECT ON finished, inner_view, ends TO {role}, {author}",
        "ALTER TABLE ends ENABLE ROW LEVEL SECURITY",
    )
    try:
        assert hidden(protea, role, profile) is None, "the superuser who made them reads there"
        do(protea, f"ALTER VIEW inner_view OWNER TO {author}")
        assert f"{author!r}: " in (hidden(protea, role, profile) or "")
        do(protea, f"CREATE POLICY p ON ends TO {author} USING (true)")
        assert hidden(protea, role, profile) is None
        do(protea, "ALTER VIEW inner_view SET (security_invoker = on)")
        finding = next(f for f in checked(protea, role, profile) if f.level is Level.ERROR)
        assert (finding.subject, finding.fix) == (
            "finished",
            f"CREATE POLICY {role} ON public.ends TO {role} USING (true);",
        )
        do(protea, finding.fix or "")
        assert hidden(protea, role, profile) is None
    finally:
        do(protea, "DROP VIEW finished, inner_view", f"DROP OWNED BY {author}", f"DROP ROLE {author}")


def test_profile_whose_jobs_show_their_own_signs_asks_nothing(protea: Protea) -> None:
    profile = protea_with(alive=[{"witness": "row", "column": "created_at"}])
    do(protea, "ALTER TABLE job ENABLE ROW LEVEL SECURITY")
    assert hidden(protea, "postgres", profile) is None


@pytest.mark.parametrize(
    ("profile", "tables"),
    [
        ("protea", {"job", "job_event"}),
        ("noetl", {"noetl.event"}),  # a log: what ends a job stands there, too
        ("adhese", {"PARTIAL_JOB_RESULTS", "SCHEDULED_JOBS"}),
        ("vuls", set()),  # Celery is asked; whose a task is, its row tells
        ("vuls-schedule", {"task_runs"}),
    ],
)
def test_liveness_tables_are_events_children_log_parts_and_missing_rows(profile: str, tables: set[str]) -> None:
    assert liveness_tables(resolve(profile)) == tables
    assert task_tables(resolve(profile)) == ({"task_runs"} if profile == "vuls" else set())
