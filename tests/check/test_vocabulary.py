"""`reaper check` and the whole vocabulary of profiles: parts, steps, conditions, limits, attempts, purges, logs."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

import pytest
from sqlalchemy import URL

from reaper.check import Finding, Level
from reaper.profile import Profile, resolve
from tests.support.checks import SHOP, SHOP_TABLES, connected, create_guest, execute, only_problem, problems, run_check


@pytest.fixture
def shop(database: str) -> str:
    """A database with the tables that SHOP is written for."""
    with connected(database, SHOP_TABLES):
        return database


def shop_profile(text: str = SHOP) -> Profile:
    return resolve("shop", {"shop": tomllib.loads(text)})


def shop_problems(url: str | URL, *script: str, text: str = SHOP) -> list[Finding]:
    return problems(run_check(url, *script, profile=shop_profile(text)))


def only_shop_problem(url: str, *script: str, text: str = SHOP) -> Finding:
    return only_problem(run_check(url, *script, profile=shop_profile(text)))


def test_fitting_tables_give_no_errors_and_no_warnings(shop: str) -> None:
    assert shop_problems(shop) == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "near"),
    [
        ("task", "locked_at", "lockd_at"),
        ("task", "errors", "error"),
        ("piece", "state", "states"),
        ("audit", "why", "whys"),
        *(
            pytest.param(*names, marks=pytest.mark.thorough)
            for names in [
                ("task", "lease", "leas"),
                ("task", "tries", "triess"),
                ("task", "note", "notes"),
                ("claim", "task_id", "task"),
                ("team", "last", "lasst"),
                ("task", "done", "donne"),
                ("task", "limit_ms", "limit_mss"),
                ("task", "max_tries", "maxtries"),
                ("task", "team_id", "team"),
                ("piece", "task_id", "taskid"),
                ("piece", "at", "att"),
                ("audit", "no", "nno"),
                ("team", "when", "whenn"),
            ]
        ),
    ],
)
def test_wrong_column_is_corrected_everywhere_in_the_profile(shop: str, table: str, column: str, near: str) -> None:
    findings = shop_problems(shop, f'ALTER TABLE {table} RENAME COLUMN "{column}" TO "{near}"')
    subjects = {f.subject: f for f in findings if f.level is Level.ERROR}
    finding = subjects[f"{table}.{column}"]
    assert finding.message == f"no such column; did you mean {near!r}?"
    assert list(subjects) == [f"{table}.{column}"]
    assert problems(run_check(shop, profile=corrected(finding))) == []


def corrected(finding: Finding) -> Profile:
    """The profile with the printed lines in the configuration file."""
    assert finding.fix is not None
    header, _, rest = finding.fix.partition("\n")
    lines = tomllib.loads(f"{header}\n{rest}")["profiles"]["shop"]
    if "the whole profile" in header:
        return resolve("shop", {"shop": lines})
    return resolve("new", {"old": tomllib.loads(SHOP), "new": {"extends": "old", **lines}})


@pytest.mark.parametrize(
    "table", ["piece", *(pytest.param(n, marks=pytest.mark.thorough) for n in ("claim", "audit", "team"))]
)
def test_wrong_table_is_corrected_everywhere_in_the_profile(shop: str, table: str) -> None:
    finding, *others = shop_problems(shop, f"ALTER TABLE {table} RENAME TO {table}s")
    assert (finding.subject, finding.message) == (table, f"no such table; did you mean '{table}s'?")
    assert [f for f in others if f.level is Level.ERROR] == []
    assert problems(run_check(shop, profile=corrected(finding))) == []


def test_sql_template_keeps_its_braces_when_a_column_is_corrected(shop: str) -> None:
    text = SHOP.replace('sql = "{done} IS NULL"', "sql = \"{done} IS NULL AND {note} <> '{{}}'\"")
    [finding, *_] = shop_problems(shop, "ALTER TABLE task RENAME COLUMN note TO notes", text=text)
    assert "{notes} <> '{{}}'" in str(finding.fix)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "new", "places"),
    [
        pytest.param("Open", "OPENED", ["jobs.parts.0.where.0.in"], marks=pytest.mark.thorough),
        ("Closed", "CLOSED UP", ["alive.0.events.where.0.not_in", "actions.fail.also.2"]),
    ],
)
def test_enum_labels_are_checked_in_conditions_and_updates(shop: str, label: str, new: str, places: list[str]) -> None:
    findings = shop_problems(shop, f"ALTER TYPE piece_state RENAME VALUE '{label}' TO '{new}'")
    assert [f.message.split(": ")[0] for f in findings] == places
    assert {f.subject for f in findings} == {"piece.state"}
    assert all(f"did you mean {new!r}?" in f.message for f in findings)
    assert problems(run_check(shop, profile=corrected(findings[0]))) == []


@pytest.mark.parametrize(
    ("script", "subject", "message"),
    [
        ("task ALTER limit_ms TYPE text", "task.limit_ms", "limits.timeout: is text; expected a number"),
        ("task ALTER quiet_ms TYPE text", "task.quiet_ms", "limits.stall: is text; expected a number"),
        ("task ALTER max_tries TYPE text", "task.max_tries", "attempts.limit_column: is text; expected a number"),
        (
            "task ALTER errors TYPE text",
            "task.errors",
            "actions.fail.set appends to task.errors (text); expected jsonb",
        ),
        ("task ALTER done TYPE date", "task.done", "is date, and the profile's time format of task is 'timestamptz', "
         "a timestamp with time zone, which other columns of the table have"),
        ("audit ALTER no TYPE uuid USING NULL, ALTER no DROP NOT NULL", "audit.no", None),
        ("team ALTER last TYPE int USING 0", "team.last", "actions.fail.also.1 copies task.note (text) into integer, "
         "which does not fit"),
        ("audit ADD tenant int NOT NULL", "audit.tenant", "actions.fail.also.0 inserts no value, and the column is "
         "NOT NULL without a default; give it one in the profile"),
    ],
)  # fmt: skip
def test_column_of_a_wrong_type_is_an_error(shop: str, script: str, subject: str, message: str | None) -> None:
    if "uuid" in script:
        with connected(shop, "ALTER TABLE audit DROP CONSTRAINT audit_pkey"):
            pass
    errors = [f for f in shop_problems(shop, f"ALTER TABLE {script}") if f.level is Level.ERROR]
    if message is None:
        assert errors == []  # what a NULL of uuid is compared with, only the server knows
    else:
        assert (errors[0].subject, errors[0].message) == (subject, message)


def test_attempts_array_needs_an_array_column(shop: str) -> None:
    text = SHOP.replace('[attempts]\ncolumn = "tries"', '[attempts]\narray = true\ncolumn = "workers"')
    assert shop_problems(shop, "ALTER TABLE task ADD workers text[]", text=text) == []
    assert shop_problems(shop, "ALTER TABLE task ALTER workers TYPE jsonb USING '[]'", text=text) == []
    finding = only_shop_problem(shop, "ALTER TABLE task ALTER workers TYPE int USING 0", text=text)
    assert (finding.subject, finding.message) == ("task.workers", "attempts.array: is integer; expected an array")


def test_view_is_an_error_only_where_its_rows_are_locked(shop: str) -> None:
    script = ["ALTER TABLE piece RENAME TO piece_rows", "CREATE VIEW piece AS SELECT DISTINCT * FROM piece_rows"]
    findings = shop_problems(shop, *script)
    assert [f.subject for f in findings if "its rows cannot be locked" in f.message] == ["piece"]
    assert shop_problems(shop, "DROP VIEW piece", "ALTER TABLE piece_rows RENAME TO piece") == []
    readable = ["ALTER TABLE claim RENAME TO claims", "CREATE VIEW claim AS SELECT * FROM claims"]
    text = SHOP.replace('[[actions.fail.also]]\ndelete = "claim"\nmatch = { task_id = "id" }\n', "")
    text = text.replace('also = [{ delete = "claim", match = { task_id = "id" } }]', "")
    assert shop_problems(shop, *readable, text=text) == []


def test_value_for_a_generated_column_is_an_error(shop: str) -> None:
    script = ["ALTER TABLE audit DROP why", "ALTER TABLE audit ADD why jsonb GENERATED ALWAYS AS ('{}') STORED"]
    finding = only_shop_problem(shop, *script)
    assert finding.message == "actions.fail.also.0 gives a value to a generated column, which takes none"


def test_action_that_writes_no_evidence_is_a_warning(shop: str) -> None:
    finding = only_shop_problem(shop, text=SHOP.replace('values.why = { is = "evidence" }', 'values.why = "{}"'))
    assert (finding.level, finding.subject) == (Level.WARNING, "task")
    assert finding.message == (
        'actions.fail, actions.requeue: no { is = "evidence" } is written, into an inserted row or a column of '
        "the job: only the reaper's log says why a job was ended"
    )
    inside = SHOP.replace('why = { is = "reason" }', 'why = { is = "evidence" }')
    assert shop_problems(shop, text=inside.replace('values.why = { is = "evidence" }', 'values.why = "{}"')) == []


# --- indexes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "subject", "message", "fix"),
    [
        (
            "DROP INDEX task_locked",
            "task.locked_at",
            "no index finds the running jobs: every sweep reads all of task (about 0 rows)",
            "CREATE INDEX CONCURRENTLY ON public.task (begun) WHERE locked_at IS NOT NULL;",
        ),
        (
            "DROP INDEX piece_task_id_idx",
            "piece",
            "no index on (task_id, at): the events of each old job are searched in about 0 rows",
            "CREATE INDEX CONCURRENTLY ON public.piece (task_id, at);",
        ),
        (
            "ALTER TABLE claim DROP CONSTRAINT claim_pkey",
            "claim",
            "no index on (task_id): the rows that belong to each old job are searched in about 0 rows",
            "CREATE INDEX CONCURRENTLY ON public.claim (task_id);",
        ),
        (
            "DROP INDEX audit_task_id_idx",
            "audit",
            "no index on (task_id, no): the newest value for each old job is searched in about 0 rows",
            "CREATE INDEX CONCURRENTLY ON public.audit (task_id, no);",
        ),
    ],
)
def test_missing_index_of_each_look_up_is_a_warning(shop: str, drop: str, subject: str, message: str, fix: str) -> None:
    finding = only_shop_problem(shop, drop)
    assert finding == Finding(Level.WARNING, subject, message, fix)
    execute(shop, finding.fix)
    assert shop_problems(shop) == []


def test_missing_index_for_the_purge_is_a_note(shop: str) -> None:
    findings = run_check(shop, "DROP INDEX task_done_idx", profile=shop_profile())
    assert problems(findings) == []
    assert "CREATE INDEX CONCURRENTLY ON public.task (done);" in [f.fix for f in findings]


def test_partial_index_on_null_counts_only_if_it_contains_the_running_jobs(shop: str) -> None:
    script = ["DROP INDEX task_locked", "CREATE INDEX odd ON task (begun) WHERE locked_at IS NULL"]
    assert [f.subject for f in shop_problems(shop, *script)] == ["task.locked_at"]
    assert shop_problems(shop, "DROP INDEX odd", "CREATE INDEX ON task (locked_at)") == []


# --- privileges -------------------------------------------------------------------------------------------------------


def test_role_gets_only_the_grants_for_locks_steps_and_purges(shop: str) -> None:
    role = create_guest(shop)
    fixes = {f.subject: f.fix for f in shop_problems(role)}
    assert fixes == {
        "audit": "GRANT SELECT (at, no, task_id, why), INSERT (at, no, task_id, why) ON TABLE public.audit TO guest;",
        "claim": "GRANT SELECT (task_id), DELETE ON TABLE public.claim TO guest;",
        "piece": "GRANT SELECT (at, state, task_id), UPDATE (state) ON TABLE public.piece TO guest;",
        "task": "GRANT SELECT (begun, done, errors, id, lease, limit_ms, locked_at, max_tries, note, quiet_ms, "
        "team_id, tries), UPDATE (done, errors, lease, locked_at, tries) ON TABLE public.task TO guest;",
        "team": 'GRANT SELECT (id, "when"), UPDATE (last) ON TABLE public.team TO guest;',
    }
    for fix in fixes.values():
        execute(shop, fix)
    assert shop_problems(role) == []
    purge = [f.fix for f in run_check(role, profile=shop_profile()) if "`reaper purge`" in f.message]
    assert purge == ["GRANT DELETE ON TABLE public.piece TO guest;", "GRANT DELETE ON TABLE public.task TO guest;"]


def test_rows_that_are_only_locked_need_update_on_one_column(shop: str) -> None:
    text = SHOP.replace(
        '[[actions.fail.also]]\nupdate = "piece"\nmatch = { task_id = "id" }\nset = { state = "Closed" }\n', ""
    )
    role = create_guest(
        shop, "GRANT ALL ON task, claim, audit, team TO guest", "GRANT SELECT, DELETE ON piece TO guest"
    )
    finding = only_problem(run_check(role, profile=shop_profile(text)))
    assert finding.fix == "GRANT UPDATE (task_id) ON TABLE public.piece TO guest;"
    execute(shop, finding.fix)
    assert shop_problems(role, text=text) == []
    with connected(role) as connection:
        connection.exec_driver_sql("SELECT 1 FROM piece FOR UPDATE")


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def noetl(database: str) -> str:
    """A database with noetl's log."""
    with connected(database, resources.files("reaper.profiles").joinpath("noetl.sql").read_text(encoding="utf-8")):
        return database


def log_profile(**changes: Any) -> Profile:
    return resolve("mine", {"mine": {"extends": "noetl", **changes}})


def log_problems(url: str | URL, *script: str, changes: dict[str, Any] | None = None) -> list[Finding]:
    return problems(run_check(url, *script, profile=log_profile(**(changes or {}))))


def test_fitting_log_gives_no_errors_and_no_warnings(noetl: str) -> None:
    assert log_problems(noetl) == []


def test_log_that_is_locked_as_a_whole_needs_a_privilege_on_the_whole_table(noetl: str) -> None:
    role = create_guest(noetl, "GRANT USAGE ON SCHEMA noetl TO guest", "GRANT SELECT, INSERT ON noetl.event TO guest")
    [finding] = log_problems(role)
    assert (finding.level, finding.subject) == (Level.ERROR, "noetl.event")
    assert finding.message == (
        "the role 'guest' may not LOCK the table, which keeps late entries out while a job is ended"
    )
    assert finding.fix in (
        "GRANT MAINTAIN ON TABLE noetl.event TO guest;",
        "GRANT UPDATE ON TABLE noetl.event TO guest;",
    )
    with connected(role) as connection, pytest.raises(Exception, match="permission denied"):
        connection.exec_driver_sql("LOCK TABLE noetl.event IN SHARE ROW EXCLUSIVE MODE")
    execute(noetl, finding.fix)
    assert log_problems(role) == []
    with connected(role) as connection:
        connection.exec_driver_sql("LOCK TABLE noetl.event IN SHARE ROW EXCLUSIVE MODE")


def test_log_whose_jobs_are_locked_one_by_one_needs_no_table_lock(noetl: str) -> None:
    role = create_guest(noetl, "GRANT USAGE ON SCHEMA noetl TO guest", "GRANT SELECT, INSERT ON noetl.event TO guest")
    changes = {"jobs": {"log": {"lock": "job"}}}
    assert log_problems(role, changes=changes) == []


def test_log_types_are_checked_as_enum_labels(noetl: str) -> None:
    script = ["ALTER TYPE noetl.event_type RENAME VALUE 'execution.cancelled' TO 'execution.canceled'"]
    findings = [f for f in log_problems(noetl, *script) if f.level is Level.ERROR]
    assert {f.message.split(": ")[0] for f in findings} == {"jobs.log.ended", "actions.fail.also.0"}
    assert all("did you mean 'execution.canceled'?" in f.message for f in findings)
    assert findings[0].fix is not None
    lines = tomllib.loads(findings[0].fix)["profiles"]["mine"]
    assert "execution.canceled" in lines["jobs"]["log"]["ended"]


def test_log_needs_indexes_by_key_and_by_type(noetl: str) -> None:
    with connected(noetl) as connection:
        names = (
            connection.exec_driver_sql(
                "SELECT indexrelid::regclass::text FROM pg_index"
                " WHERE indrelid = 'noetl.event'::regclass AND NOT indisprimary"
            )
            .scalars()
            .all()
        )
    script = [*(f"DROP INDEX {name}" for name in names), "ALTER TABLE noetl.event DROP CONSTRAINT event_pkey"]
    fixes = [f.fix for f in log_problems(noetl, *script)]
    assert "CREATE INDEX ON noetl.event (execution_id, event_type);" in fixes
    assert "CREATE INDEX ON noetl.event (event_type, created_at);" in fixes
    assert "CREATE INDEX ON noetl.event (created_at);" in fixes
    assert "ALTER TABLE noetl.event ADD UNIQUE (execution_id, event_id);" in fixes
    for fix in fixes:
        execute(noetl, fix)
    assert log_problems(noetl) == []


def test_naive_timestamps_of_a_log_are_reported_when_the_profile_declares_time_zones(noetl: str) -> None:
    [finding] = log_problems(noetl, changes={"time": "timestamptz"})
    assert finding.message.endswith("; did you mean 'naive'?")
    assert finding.fix == '[profiles.mine]  # replace these lines of it\ntimes."noetl.event" = "naive"'
