"""No part of a profile can become SQL: hostile names stay quoted names, hostile values stay bound values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import Engine, event

from reaper.model import Outcome
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from tests.profile.test_profile import HOSTILE
from tests.support.protea import PATIENCE, Protea, SweepRecorder, thresholds

VALUE = "it's \"odd\"; DROP TABLE job; -- %s %(x)s :x \\ ☃ {} $1 '"
MARK = "Zq9"
"""Part of every name and value. No statement may contain it outside of quoted names."""

TABLES = {
    "job": {"id": "text", "kind": "text", "state": "text", "lane": "text", "begun": "timestamptz", "token": "text",
            "team": "text", "lease": "timestamptz", "tries": "int", "most": "int", "limit": "int", "note": "text",
            "errors": "jsonb", "copied": "text", "made": "text", "done": "timestamptz"},
    "part": {"job": "text", "state": "text", "at": "timestamptz", "no": "int", "what": "text"},
    "claim": {"job": "text"},
    "end": {"job": "text", "what": "text"},
    "team": {"id": "text", "last": "text", "next": "timestamptz", "every": "int", "busy": "text"},
    "audit": {"job": "text", "at": "timestamptz", "no": "int", "proof": "jsonb", "what": "text"},
    "entry": {"run": "text", "no": "int", "type": "text", "at": "timestamptz", "proof": "jsonb"},
}  # fmt: skip


class TablesNamed:
    """Tables and columns that are all called something like `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns = {
            table: {role: self._called(f"{t}{c}") for c, role in enumerate(roles)}
            for t, (table, roles) in enumerate(TABLES.items())
        }
        self.tables = {table: self._called(f"T{t}") for t, table in enumerate(TABLES)}

    def _called(self, end: str) -> str:
        end = f"{MARK}{end}"
        return self.name.encode()[: 63 - len(end)].decode(errors="ignore") + end

    def table(self, table: str) -> str:
        """As a profile names it."""
        return f"odd.{self.tables[table]}"

    def __getitem__(self, role: str) -> str:
        """The column of `table.role`."""
        table, _, column = role.partition(".")
        return self.columns[table][column]

    def match(self, table: str, **roles: str) -> dict[str, str]:
        return {self[f"{table}.{theirs}"]: self[f"job.{ours}"] for theirs, ours in roles.items()}

    def place(self, role: str) -> str:
        """A column inside a template; some text instead of a name that braces cannot hold."""
        return "'x'" if any(character in self.name for character in "{}!:[") else "{" + self[role] + "}"

    def create(self, protea: Protea) -> None:
        protea.connection.execute("CREATE SCHEMA odd")
        for table, roles in TABLES.items():
            columns = [sql.SQL("{} " + kind).format(sql.Identifier(self[f"{table}.{r}"])) for r, kind in roles.items()]
            name = sql.Identifier(self.tables[table])
            protea.connection.execute(sql.SQL("CREATE TABLE odd.{} ({})").format(name, sql.SQL(", ").join(columns)))

    def insert(self, protea: Protea, table: str, **values: object) -> None:
        # Without placeholders of the driver, which would read the percent signs.
        query = sql.SQL("INSERT INTO odd.{} ({}) VALUES ({})").format(
            sql.Identifier(self.tables[table]),
            sql.SQL(", ").join(sql.Identifier(self[f"{table}.{role}"]) for role in values),
            sql.SQL(", ").join(sql.Literal(value) for value in values.values()),
        )
        protea.connection.execute(query)

    def rows(self, protea: Protea, table: str, *roles: str) -> list[tuple[Any, ...]]:
        columns = sql.SQL(", ").join(sql.Identifier(self[f"{table}.{role}"]) for role in roles)
        query = sql.SQL("SELECT {} FROM odd.{} ORDER BY 1").format(columns, sql.Identifier(self.tables[table]))
        return protea.connection.execute(query).fetchall()


def of_rows(n: TablesNamed, value: str) -> dict[str, Any]:
    """A profile that uses whatever there is for jobs that are rows."""
    lane, kind = n.place("job.lane"), n.place("job.kind")
    return {
        "jobs": {
            "table": n.table("job"),
            "key": n["job.id"],
            "kind": n["job.kind"],
            "started": [n["job.begun"]],
            "claim": [n["job.token"]],
            "running": {
                "column": n["job.state"],
                "in": [f"on {value}", f"busy {value}"],
                "where": [
                    {"column": n["job.lane"], "not_in": [f"off {value}", value]},
                    {"column": n["job.lane"], "greater_than": f" {value}"},
                    {"column": n["job.begun"], "less_than": {"is": "now"}},
                    {"column": n["job.done"], "is": "null"},
                    {"sql": f"{lane} <> '%s %% :x $1 \\ {{{{}}}}'"},
                ],
                "exists": [{"table": n.table("claim"), "match": n.match("claim", job="id")}],
                "missing": [
                    {
                        "table": n.table("end"),
                        "match": n.match("end", job="id"),
                        "where": [{"column": n["end.what"], "in": [value]}],
                    }
                ],
            },
            "parts": [
                {
                    "table": n.table("part"),
                    "match": n.match("part", job="id"),
                    "where": [{"column": n["part.state"], "in": [f"open {value}"]}],
                }
            ],
        },
        "alive": [
            {
                "witness": f"parts {value}",
                "events": {
                    "table": n.table("part"),
                    "match": n.match("part", job="id"),
                    "at": n["part.at"],
                    "where": [{"column": n["part.what"], "not_in": [value]}],
                },
            },
            {"witness": f"lease {value}", "deadline": n["job.lease"]},
        ],
        "limits": {"timeout": {"column": n["job.limit"], "unit": "h"}},
        "attempts": {"column": n["job.tries"], "limit_column": n["job.most"]},
        "actions": {
            "requeue": {"set": {n["job.state"]: f"queued {value}", n["job.token"]: {"is": "null"}}},
            "fail": {
                "set": {
                    n["job.state"]: f"off {value}",
                    n["job.note"]: {"is": "message"},
                    n["job.done"]: {"is": "now", "plus": "1h"},
                    n["job.tries"]: {"column": n["job.tries"], "plus": 1},
                    n["job.errors"]: {
                        "column": n["job.errors"],
                        "append": {"json": {f"why {value}": {"is": "reason"}, value: value}},
                    },
                    n["job.copied"]: {"first": [{"column": n["job.token"]}, value]},
                    n["job.made"]: {"sql": f"{kind} || ' 100%d %% :y $1 {{{{}}}}'"},
                },
                "also": [
                    {
                        "insert": n.table("audit"),
                        "values": {
                            n["audit.job"]: {"column": n["job.id"]},
                            n["audit.at"]: {"is": "now"},
                            n["audit.what"]: value,
                            n["audit.proof"]: {"json": {f"proof {value}": {"is": "evidence"}}},
                            n["audit.no"]: {
                                "next": {
                                    "table": n.table("audit"),
                                    "column": n["audit.no"],
                                    "match": n.match("audit", job="id"),
                                    "step": 10,
                                }
                            },
                        },
                    },
                    {
                        "update": n.table("part"),
                        "match": n.match("part", job="id"),
                        "where": [{"column": n["part.state"], "in": [f"open {value}"]}],
                        "set": {n["part.state"]: f"closed {value}"},
                    },
                    {
                        "update": n.table("team"),
                        "match": n.match("team", id="team"),
                        "set": {n["team.busy"]: value},
                    },
                    {"delete": n.table("claim"), "match": n.match("claim", job="id")},
                ],
            },
        },
    }  # fmt: skip


def of_a_log(n: TablesNamed, value: str) -> dict[str, Any]:
    started, ended = f"started {value}", f"ended {value}"
    entry = {
        n["entry.run"]: {"column": n["entry.run"]},
        n["entry.type"]: ended,
        n["entry.at"]: {"is": "now"},
        n["entry.proof"]: {"is": "evidence"},
        n["entry.no"]: {
            "next": {
                "table": n.table("entry"),
                "column": n["entry.no"],
                "match": {n["entry.run"]: n["entry.run"]},
                "step": 1,
            }
        },
    }
    return {
        "jobs": {
            "table": n.table("entry"),
            "key": n["entry.run"],
            "started": n["entry.at"],
            "log": {"type": n["entry.type"], "started": [started], "ended": [ended], "order": n["entry.no"]},
        },
        "alive": [
            {"witness": value, "events": {"table": n.table("entry"), "job": n["entry.run"], "at": n["entry.at"]}}
        ],
        "actions": {"fail": {"also": [{"insert": n.table("entry"), "values": entry}]}},
    }


@contextmanager
def watched(engine: Engine) -> Iterator[list[str]]:
    """The statements that go to the driver."""
    seen: list[str] = []

    def see(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", see)
    yield seen
    event.remove(engine, "before_cursor_execute", see)


def outside_of_quotes(statement: str) -> str:
    """A statement without its quoted names."""
    return re.sub(r'"(?:[^"]|"")*"', "", statement)


def swept(protea: Protea, profile: Profile, action: str, reaped: int) -> SweepRecorder:
    source = Source("main", protea.url, profile, thresholds(), PATIENCE, SourceOptions(action=action))
    recorder = SweepRecorder()
    with watched(source.engine) as statements:
        report = protea.sweep(source, recorder=recorder)
    assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, reaped)
    assert any(MARK in statement for statement in statements)
    assert [s for s in statements if MARK in outside_of_quotes(s)] == []
    return recorder


def few(*quick: str) -> list[Any]:
    """Test parameters: without --thorough only these names; other tests have other ones."""
    assert set(quick) <= set(HOSTILE)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.thorough) for name in HOSTILE]


@pytest.mark.parametrize("name", few(HOSTILE[0], "per%cent %s %(x)s %%", "a" * 63))
def test_hostile_names_and_values_of_all_parts_cannot_become_sql(protea: Protea, name: str) -> None:
    n, value = TablesNamed(name), f"{MARK} {VALUE}"
    n.create(protea)
    row = protea.connection.execute("SELECT now() - interval '8 h', now()").fetchone()
    assert row is not None
    long_ago, now = row
    usual = {"kind": f"kind {value}", "state": f"on {value}", "lane": f"~ {value}", "begun": long_ago, "team": value}
    jobs: dict[str, dict[str, object]] = {
        f"stale {value}": {"tries": 3, "most": 3, "errors": None},
        "tried": {"tries": 1, "most": 3, "state": f"busy {value}"},
        "heard": {},
        "leased": {"lease": now.replace(year=now.year + 1)},
        "patient": {"limit": 24},
        "other lane": {"lane": f"off {value}"},
        "unclaimed": {},
        "ended": {},
    }
    for id, more in jobs.items():
        n.insert(protea, "job", **{"id": id, **usual, **more})
        if id != "unclaimed":
            n.insert(protea, "claim", job=id)
    n.insert(protea, "end", job="ended", what=value)
    n.insert(protea, "end", job="tried", what="something else")
    n.insert(protea, "part", job="heard", at=now, state="", what="work")
    n.insert(protea, "part", job=f"stale {value}", at=now, state=f"open {value}", what=value)
    n.insert(protea, "team", id=value)
    n.insert(protea, "audit", job=f"stale {value}", no=7)

    profile = resolve("odd", {"odd": of_rows(n, value)})
    recorder = swept(protea, profile, "requeue_else_fail", 2)

    assert {reaped_job.key[0] for reaped_job in recorder.reaped_jobs} == {f"stale {value}", "tried"}
    states = dict(n.rows(protea, "job", "id", "state"))
    assert (states[f"stale {value}"], states["tried"]) == (f"off {value}", f"queued {value}")
    assert {states[id] for id in states if id not in (f"stale {value}", "tried")} == {f"on {value}"}
    [failed] = [r for r in n.rows(protea, "job", "id", "tries", "errors", "copied", "made") if "stale" in r[0]]
    assert failed[1:4] == (4, [{f"why {value}": "JobTimeout", value: value}], value)
    assert failed[4].endswith(" 100%d %% :y $1 {}")
    audits = n.rows(protea, "audit", "no", "job", "what", "proof")
    assert [audit[:3] for audit in audits] == [(7, f"stale {value}", None), (17, f"stale {value}", value)]
    assert audits[1][3][f"proof {value}"]["witness"] in ("start", f"parts {value}")
    assert n.rows(protea, "part", "state") == [("",), (f"closed {value}",)]
    assert n.rows(protea, "team", "busy") == [(value,)]
    assert (f"stale {value}",) not in n.rows(protea, "claim", "job")
    assert protea.sweep().outcome is Outcome.DONE  # the table that was to be dropped is there


@pytest.mark.parametrize("name", few(HOSTILE[0], "select", "back\\slash\\"))
def test_hostile_names_and_types_of_a_log_cannot_become_sql(protea: Protea, name: str) -> None:
    n, value = TablesNamed(name), f"{MARK} {VALUE}"
    n.create(protea)
    row = protea.connection.execute("SELECT now() - interval '8 h', now()").fetchone()
    assert row is not None
    for run, last in ((f"stale {value}", row[0]), ("heard", row[1]), ("done", row[0])):
        n.insert(protea, "entry", run=run, no=1, type=f"started {value}", at=row[0])
        n.insert(protea, "entry", run=run, no=2, type=f"ended {value}" if run == "done" else "x", at=last)
    swept(protea, resolve("odd", {"odd": of_a_log(n, value)}), "fail", 1)
    entries = n.rows(protea, "entry", "no", "run", "type")
    assert [entry for entry in entries if entry[0] > 2] == [(3, f"stale {value}", f"ended {value}")]
    assert protea.sweep().outcome is Outcome.DONE


@pytest.mark.parametrize("name", ["back\\slash\\", "back\\'; DROP TABLE job; --"])
def test_backslash_in_a_name_means_itself_where_strings_have_escapes(protea: Protea, name: str) -> None:
    database = sql.Identifier(protea.connection.info.dbname)
    protea.connection.execute(sql.SQL("ALTER DATABASE {} SET standard_conforming_strings = off").format(database))
    try:
        test_hostile_names_and_types_of_a_log_cannot_become_sql(protea, name)
    finally:
        protea.connection.execute(sql.SQL("ALTER DATABASE {} RESET standard_conforming_strings").format(database))
