"""A profile is data: its problems are reported at once, and names and values in it cannot become SQL."""

from __future__ import annotations

import tomllib
from typing import Any

import psycopg
import pytest
from psycopg import sql

from reaper.errors import ConfigError
from reaper.model import Outcome, Verdict
from reaper.profile import FromColumn, Profile, Running, Values, resolve, shipped
from reaper.source import Source
from tests.support.protea import HOUR, PATIENCE, Protea, SweepRecorder, thresholds

UPPER = {
    "extends": "protea",
    "jobs": {"running": {"in": ["RUNNING"]}},
    "actions": {"fail": {"set": {"status": "FAILED"}}},
}


def whole() -> dict[str, Any]:
    """The smallest profile."""
    return {
        "jobs": {
            "table": "t",
            "key": ["id"],
            "started": ["begun"],
            "running": {"column": "state", "in": ["on"]},
        },
        "actions": {"fail": {"set": {"state": "off"}}},
    }


def problems(custom: dict[str, dict[str, Any]], name: str = "mine") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(name, custom)
    return list(caught.value.problems)


def running(profile: Profile) -> Running:
    assert profile.jobs.running is not None
    return profile.jobs.running


def assigned(profile: Profile) -> Values:
    """What `fail` sets."""
    values = profile.actions["fail"].assign
    assert values is not None
    return values


# --- names and extending -----------------------------------------------------------------------------------------


def test_shipped_profiles_are_valid_and_described() -> None:
    assert "protea" in shipped()
    for name in shipped():
        profile = resolve(name)
        assert profile.name == name and profile.description
        assert profile.jobs.table in profile.tables


def test_smallest_profile_is_valid() -> None:
    profile = resolve("mine", {"mine": whole()})
    assert (profile.name, profile.alive, profile.jobs.kind) == ("mine", (), None)
    assert profile.columns() == {"t": {"id", "begun", "state"}}


def test_extension_changes_what_it_names_and_keeps_the_rest() -> None:
    base, mine = resolve("protea"), resolve("mine", {"mine": UPPER})
    assert (running(mine).column, running(mine).values) == ("status", ("RUNNING",))
    assert assigned(mine)["status"] == "FAILED"
    assert set(assigned(mine)) == set(assigned(base))
    assert (mine.actions["fail"].also, mine.alive, mine.jobs.key) == (
        base.actions["fail"].also,
        base.alive,
        base.jobs.key,
    )
    assert mine.name == "mine"
    assert resolve("protea", {"mine": UPPER}) == base


def test_extension_replaces_the_value_of_a_column_as_a_whole() -> None:
    mine = {"extends": "protea", "actions": {"fail": {"set": {"finished_at": {"column": "created_at"}}}}}
    fail = assigned(resolve("mine", {"mine": mine}))
    assert (fail["finished_at"], fail["status"]) == (FromColumn(column="created_at"), "failed")


def test_extension_replaces_lists_as_a_whole() -> None:
    mine = resolve("mine", {"mine": {"extends": "protea", "alive": [{"witness": "beat", "column": "beat"}]}})
    assert [alive.witness for alive in mine.alive] == ["beat"]


def test_extension_may_extend_an_extension() -> None:
    custom = {
        "first": UPPER,
        "second": {"extends": "first", "jobs": {"table": "ops.job"}},
        "third": {"extends": "second", "jobs": {"running": {"in": ["BUSY"]}}},
    }
    third = resolve("third", custom)
    assert third.jobs.table == "ops.job"
    assert running(third).values == ("BUSY",)
    assert assigned(third)["status"] == "FAILED"


def test_profile_may_extend_the_shipped_one_of_its_own_name() -> None:
    assert running(resolve("protea", {"protea": UPPER})).values == ("RUNNING",)
    twice = {"protea": UPPER, "mine": {"extends": "protea", "jobs": {"table": "x"}}}
    assert running(resolve("mine", twice)).values == ("RUNNING",)


def test_circular_extensions_are_refused() -> None:
    circle = {"a": {"extends": "b"}, "b": {"extends": "c"}, "c": {"extends": "a"}}
    assert problems(circle, "a") == ["profile 'a' extends itself: a -> b -> c -> a"]
    # Only a shipped one can be meant by its own name.
    [said] = problems({"mine": {"extends": "mine"}})
    assert "mine" in said


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("protae", "'protea'"), ("Protea", "'protea'"), ("minne", "'mine'"), ("zzz", "expected one of: adhese")],
)
def test_unknown_name_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    for said in (problems({"mine": UPPER}, name), problems({"mine": UPPER, "x": {"extends": name}}, "x")):
        assert len(said) == 1
        assert said[0].startswith(f"unknown profile {name!r}; ")
        assert nearest.split(", ")[0] in said[0]


@pytest.mark.parametrize("base", [3, ["protea"], True])
def test_extends_must_be_a_name(base: object) -> None:
    assert problems({"mine": {"extends": base}}) == [
        f"profile 'mine': extends: expected a profile's name, not {base!r}"
    ]


# --- what may stand in one (what may not: see test_bad_profiles) ---------------------------------------------------


def test_problems_of_a_profile_are_reported_at_once() -> None:
    profile = whole()
    profile["jobs"]["tabel"] = profile["jobs"].pop("table")
    profile["jobs"]["key"] = []
    profile["alive"] = [{"witness": "w"}]
    said = problems({"mine": profile})
    assert len(said) == len(set(said)) == 4


@pytest.mark.parametrize(
    ("running", "fail"),
    [
        ('{ where = [{ column = "lock", is = "not null" }] }', 'set = { lock = { is = "null" } }'),
        ('{ where = [{ column = "done", is = "null" }] }', 'set = { done = { is = "now" } }'),
        ('{ where = [{ column = "lock", greater_than = { is = "now" } }] }', 'set = { lock = { is = "now" } }'),
        ('{ where = [{ column = "state", not_in = ["off"] }] }', 'set = { state = "off" }'),
        ('{ where = [{ column = "n", less_than = 3 }] }', "set = { n = 3 }"),
        ('{ where = [{ column = "n", less_than = 3 }] }', 'set = { n = { column = "n", plus = 1 } }'),
        ('{ where = [{ sql = "{n} < 3" }] }', "set = { n = 3 }"),
        ('{ column = "state", in = ["on"] }', 'set = { state = { sql = "upper({state})" } }'),
        (
            '{ column = "state", in = ["on"], where = [{ column = "done", is = "null" }] }',
            'set = { done = { is = "now" } }',
        ),
        ('{ exists = [{ table = "u", match = { job = "id" } }] }', "delete = true"),
        (
            '{ exists = [{ table = "u", match = { job = "id" } }] }',
            'set = { note = "x" }, also = [{ delete = "u", match = { job = "id" } }]',
        ),
        (
            '{ where = [{ column = "begun", is = "not null" }], missing = [{ table = "u", match = { job = "id" } }] }',
            'set = { note = "x" }, also = [{ insert = "u", values = { job = { column = "id" } } }]',
        ),
        ('{ exists = [{ table = "u", match = { job = "id", at = "due" } }] }', 'set = { due = { is = "now" } }'),
    ],
)  # fmt: skip
def test_action_that_may_end_a_job_is_accepted(running: str, fail: str) -> None:
    text = f'jobs = {{ table = "t", key = "id", started = "begun", running = {running} }}\nactions.fail = {{ {fail} }}'
    assert resolve("mine", {"mine": tomllib.loads(text)}).actions


@pytest.mark.parametrize(
    "where", ['column = "state", in = ["off"]', 'column = "done", is = "not null"', 'sql = "true"']
)
def test_purge_that_may_match_finished_rows_only_is_accepted(where: str) -> None:
    purge = tomllib.loads(f'where = [{{ {where} }}]\nat = "done"')
    assert resolve("mine", {"mine": {**whole(), "purge": purge}}).purge


def test_profile_is_frozen() -> None:
    profile = resolve("protea")
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "x"  # type: ignore[misc]


# --- real databases ----------------------------------------------------------------------------------------------


def source_of(protea: Protea, profile: Profile) -> Source:
    return Source("main", protea.url, profile, thresholds(), PATIENCE)


@pytest.mark.parametrize("profile", ["protea", "mine"])
def test_enum_with_upper_case_labels_is_swept_whether_a_profile_names_them_or_not(protea: Protea, profile: str) -> None:
    for label in ("queued", "running", "succeeded", "failed", "cancelled"):
        protea.connection.execute(f"ALTER TYPE job_status RENAME VALUE '{label}' TO '{label.upper()}'".encode())
    job, alive = protea.job(status="RUNNING"), protea.job(status="RUNNING")
    protea.event(alive)
    report = protea.sweep(source_of(protea, resolve(profile, {"mine": UPPER})))
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1)
    assert (protea.status(job), protea.status(alive)) == ("FAILED", "RUNNING")
    assert len(protea.audits(job)) == 1


HOSTILE = (
    "All' \" \\ ` %s %% :x $1 {b} /* ; -- ☃\n",
    "plain",
    "Upper Case",
    'quo"te',
    "apo'strophe",
    "semi; DROP TABLE job; --",
    '"; DROP TABLE job; --',
    "per%cent %s %(x)s %%",
    ":colon :x",
    "back\\slash\\",
    "ünïcödé ☃",
    "select",
    "a" * 63,
    "{braces}",
    "(parens) $1",
    "/* comment */",
    "new\nline",
)
ROLES = ("id", "kind", "state", "begun", "token", "parent", "beat", "note", "twin", "copied")
EVENT_ROLES = ("job", "at", "what", "proof", "copied", "constant")


def hostile(name: str, value: str) -> tuple[str, str, dict[str, str], dict[str, str], dict[str, Any]]:
    """Tables and columns that are all called something like `name`, and a profile that names them."""

    def called(role: str) -> str:
        return name[: 63 - len(role.encode())].encode()[: 63 - len(role)].decode(errors="ignore") + role

    jobs, events = called("J"), called("E")
    job = {role: called(str(n)) for n, role in enumerate(ROLES)}
    event = {role: called(str(n)) for n, role in enumerate(EVENT_ROLES)}
    profile = {
        "jobs": {
            "table": f"odd.{jobs}",
            "key": [job["id"]],
            "kind": job["kind"],
            "started": [job["begun"], job["twin"]],
            "claim": [job["token"]],
            "running": {"column": job["state"], "in": [f"on {value}", f"busy {value}"]},
        },
        "alive": [
            {
                "witness": f"events {value}",
                "events": {"table": f"odd.{events}", "job": [event["job"]], "at": event["at"]},
            },
            {
                "witness": f"children {value}",
                "children": {"parent": [job["parent"]], "at": [job["begun"], job["twin"]]},
            },
            {"witness": f"beat {value}", "column": job["beat"]},
        ],
        "actions": {
            "fail": {
                "set": {
                    job["state"]: f"off {value}",
                    job["note"]: {"is": "message"},
                    job["twin"]: {"is": "now"},
                    job["copied"]: {"column": job["kind"]},
                },
                "also": [
                    {
                        "insert": f"odd.{events}",
                        "values": {
                            event["job"]: {"column": job["id"]},
                            event["at"]: {"is": "now"},
                            event["what"]: {"is": "reason"},
                            event["proof"]: {"is": "evidence"},
                            event["copied"]: {"column": job["kind"]},
                            event["constant"]: value,
                        },
                    }
                ],
            }
        },
    }  # fmt: skip
    return jobs, events, job, event, profile


def create(protea: Protea, jobs: str, events: str, job: dict[str, str], event: dict[str, str]) -> None:
    run = protea.connection.execute
    types = dict.fromkeys(ROLES, "text") | dict.fromkeys(("begun", "beat", "twin"), "timestamptz")
    event_types = dict.fromkeys(EVENT_ROLES, "text") | {"at": "timestamptz", "proof": "jsonb"}
    run("CREATE SCHEMA IF NOT EXISTS odd")
    for table, names, kinds in ((jobs, job, types), (events, event, event_types)):
        columns = [sql.SQL("{} " + kinds[role]).format(sql.Identifier(name)) for role, name in names.items()]
        run(sql.SQL("CREATE TABLE odd.{} ({})").format(sql.Identifier(table), sql.SQL(", ").join(columns)))


@pytest.mark.parametrize("value", ["it's \"odd\"; DROP TABLE job; -- %s %(x)s :x \\ ☃ {} $1 '"])
def test_hostile_names_and_values_stay_names_and_values(protea: Protea, value: str, thorough: bool) -> None:
    """Without `--thorough` with two of the names; tests/profile/test_injection.py tries others with more parts."""
    for name in HOSTILE if thorough else (HOSTILE[0], "select"):
        jobs, events, job, event, profile = hostile(name, value)
        create(protea, jobs, events, job, event)

        def insert(table: str, names: dict[str, str], values: dict[str, object]) -> None:
            # Without placeholders of the driver, which would read the percent signs.
            query = sql.SQL("INSERT INTO odd.{} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(sql.Identifier(names[role]) for role in values),
                sql.SQL(", ").join(sql.Literal(value) for value in values.values()),
            )
            protea.connection.execute(query)

        long_ago = protea.connection.execute("SELECT now() - interval '8 h'").fetchone()
        now = protea.now()
        assert long_ago is not None
        rows: dict[str, dict[str, object]] = {
            f"stale {value}": {},
            "busy": {"state": f"busy {value}"},
            "beats": {"beat": now},
            "ended": {"state": f"off {value}"},
            "heard": {},
            "mother": {},
            "child": {"parent": "mother", "beat": now},
        }
        for id, more in rows.items():
            row = {"id": id, "kind": f"kind {value}", "state": f"on {value}", "begun": long_ago[0], **more}
            insert(jobs, job, row)
        insert(events, event, {"job": "heard", "at": now})

        source, recorder = source_of(protea, resolve("hostile", {"hostile": profile})), SweepRecorder()
        report = protea.sweep(source, recorder=recorder)
        assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 2), name
        assert {audit.key[0] for audit in recorder.reaped_jobs} == {f"stale {value}", "busy"}
        assert {audit.kind for audit in recorder.reaped_jobs} == {f"kind {value}"}
        assert {found.key[0]: found.witness for found in report.newly_spared} == {
            "beats": f"beat {value}",
            "heard": f"events {value}",
            "mother": f"children {value}",
            "child": f"beat {value}",
        }
        audit = protea.connection.execute(
            sql.SQL("SELECT {}, {}, {} FROM odd.{} WHERE {} = {}").format(
                *(sql.Identifier(event[role]) for role in ("what", "copied", "constant")),
                sql.Identifier(events),
                sql.Identifier(event["job"]),
                sql.Literal(f"stale {value}"),
            )
        ).fetchall()
        assert audit == [("JobTimeout", f"kind {value}", value)]
        with source.connect() as connection, source.transaction(connection):
            [reap_audit] = source.lookup.audits(connection, (f"stale {value}",))
        assert reap_audit["witness"] == "start"
        protea.connection.execute("DROP SCHEMA odd CASCADE")
    assert protea.sweep().outcome is Outcome.DONE  # the table that was to be dropped is there


def test_tables_may_have_the_names_of_parts_of_the_statements(protea: Protea, thorough: bool) -> None:
    parts = ("sign", "child", "judged", "gathered", "measured", "ended", "also_0", "counts", "wanted")
    # A name with a dot is a schema's table: the second of two dots is part of the name.
    tables = (*parts, *(f"reaper_{part}" for part in ("count", "signs")), "anon_1", "any_0", "p.q")
    for table in tables if thorough else tables[1::4]:
        called = f"public.{table}" if "." in table else table
        profile = resolve("mine", {"mine": {"extends": "protea", "jobs": {"table": called}}})
        silent, living, parent = protea.job(), protea.job(), protea.job()
        child = protea.job(parent=parent)
        protea.event(living)
        protea.event(child)
        protea.connection.execute(sql.SQL("ALTER TABLE job RENAME TO {}").format(sql.Identifier(table)))
        report = protea.sweep(source_of(protea, profile))
        protea.connection.execute(sql.SQL("ALTER TABLE {} RENAME TO job").format(sql.Identifier(table)))
        assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 1), table
        assert protea.statuses() == {silent: "failed", living: "running", parent: "running", child: "running"}, table
        assert len(protea.audits(silent)) == 1
        protea.connection.execute("TRUNCATE job, job_event")


def test_event_table_may_have_the_name_of_a_part_of_the_statements(protea: Protea) -> None:
    alive = [{"witness": "events", "events": {"table": "judged", "job": ["job_id"], "at": "ts"}}]
    also = [{"insert": "judged", "values": {"job_id": {"column": "id"}, "event": "job.timeout"}}]
    mine = {"extends": "protea", "alive": alive, "actions": {"fail": {"also": also}}}
    stale, living = protea.stale(), protea.job()
    protea.event(living)
    protea.connection.execute("ALTER TABLE job_event RENAME TO judged")
    report = protea.sweep(source_of(protea, resolve("mine", {"mine": mine})))
    assert (report.error, protea.statuses()) == (None, {stale: "failed", living: "running"})


def test_columns_may_have_the_names_of_columns_of_the_statements(protea: Protea) -> None:
    names = ("key_0", "text_0", "row_0", "any_0", "verdict", "started", "child", "now", "evidence")
    for column in (each for name in names for each in (name, f"{name} too")):
        for table in ("job", "job_event"):
            add = sql.SQL("ALTER TABLE {} ADD {} text").format(sql.Identifier(table), sql.Identifier(column))
            protea.connection.execute(add)
    changed = {column: {"is": "reason"} for column in names} | {f"{name} too": {"column": name} for name in names}
    values = {"job_id": {"column": "id"}, "event": "x", **{column: column for column in names}}
    fail = {"set": {"status": "failed", **changed}, "also": [{"insert": "job_event", "values": values}]}
    custom: dict[str, dict[str, Any]] = {
        "base": {"extends": "protea", "actions": 0},
        "mine": {"extends": "base", "actions": {"fail": fail}},
    }
    job, profile = protea.job(age=8 * HOUR), resolve("mine", custom)
    report = protea.sweep(source_of(protea, profile))
    assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 1)
    row = protea.row(job)
    assert {(row[name], row[f"{name} too"]) for name in names} == {("JobTimeout", None)}
    assert protea.judge(job, source_of(protea, profile)).verdict is Verdict.ENDED


def test_values_of_any_kind_are_bound(protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job ADD n int, ADD f float8, ADD b bool, ADD t text, ADD z text DEFAULT 'z'")
    more = {"n": 7, "f": 1.5, "b": True, "t": "'; DROP TABLE job; --", "z": {"is": "null"}, "payload": "{}"}
    profile = resolve("mine", {"mine": {"extends": "protea", "actions": {"fail": {"set": more}}}})
    job = protea.stale()
    assert protea.sweep(source_of(protea, profile)).reaped == 1
    row = protea.row(job)
    assert [row[name] for name in ("n", "f", "b", "t", "z")] == [7, 1.5, True, "'; DROP TABLE job; --", None]
    with pytest.raises(psycopg.errors.UndefinedColumn):
        protea.connection.execute("SELECT nothing FROM job")


@pytest.mark.parametrize(("running", "off"), [(1, 2), (True, False)])
def test_state_may_be_a_number_or_a_boolean(protea: Protea, running: object, off: object) -> None:
    kind = "bool" if isinstance(running, bool) else "smallint"
    protea.connection.execute(f"CREATE TABLE t (id int, begun timestamptz, state {kind})".encode())
    protea.connection.execute(
        "INSERT INTO t VALUES (1, now() - interval '8 h', %s), (2, now() - interval '8 h', %s), (3, now(), %s)",
        (running, off, running),
    )
    profile = whole()
    profile["jobs"]["running"]["in"] = [running]
    profile["actions"]["fail"]["set"]["state"] = off
    report = protea.sweep(source_of(protea, resolve("mine", {"mine": profile})))
    assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 1)
    rows = protea.connection.execute("SELECT id, state FROM t ORDER BY id").fetchall()
    assert rows == [(1, off), (2, off), (3, running)]
