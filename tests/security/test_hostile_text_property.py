"""Generated hostile text through everything that shows or stores it: rows, requests, reasons, configuration and names.

Drawn from all of Unicode's control, format, separator and private characters, beside what quoting, SQL, HTML, TOML and
shells care about.
"""

from __future__ import annotations

import json
import socket
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reaper.common.reasons import is_reason
from reaper.config import load
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.errors import ConfigError
from tests.support.api import ApiDaemon
from tests.support.commands import AWAY, Reaper
from tests.support.pages import Page
from tests.support.waiting import wait_until

hostile = st.text(
    st.one_of(
        st.characters(categories=("Cc", "Cf", "Zl", "Zp"), exclude_characters="\0"),
        st.sampled_from("'\"`\\$%{}[]()<>&;:,|/?#=@!~*\r\n\t-._ "),
        st.characters(categories=("Cc", "Cf", "Z", "Co", "M", "Lo", "Ll", "N", "P", "S"), exclude_characters="\0"),
    ),
    min_size=1,
    max_size=30,
)
WORST = [
    "\x1b]0;TITLE\x07\x1b[2J\x9b31m\x7f",
    "<script>alert(1)</script>\u202e\u2066\u2028",
    '\'; DROP TABLE "odd job"; --',
    "%(key_0)s :reaper_now ${HOME} {braces} $1 %s %",
    "[bold red]markup[/] \\[x] :smile: \\x1b",
    "\u200b\ufeff\u00ad\U000e0001\u3000 \r\n\t",
    "x" * 5_000,
]
# Few examples, each with many texts: what is tried takes a process most of its time.
few = settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
    derandomize=True,
)


def raw(text: str) -> set[str]:
    """The characters of a text that a terminal would obey, or that are not seen."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


TABLE, STATE, NOTE, KIND = "odd job'; --", 'st"ate %s', "no{te} :x", "kind\\ $1 <b>"
PROFILE = f"""
[sources.odd]
database_url = DATABASE_URL
profile = "odd"
[profiles.odd.jobs]
table = {json.dumps(TABLE)}
key = "id"
kind = {json.dumps(KIND)}
status = {json.dumps(STATE)}
started = ["started"]
claim = ["worker"]
running = {{ column = {json.dumps(STATE)}, in = ["on"] }}
[profiles.odd.actions.fail.set]
{json.dumps(STATE)} = "dead"
{json.dumps(NOTE)} = {{ is = "message" }}
"""


@dataclass
class Odd:
    """A table whose names are odd, a daemon that watches it, and commands with the same configuration."""

    connection: psycopg.Connection[tuple[object, ...]]
    daemon: ApiDaemon
    reaper: Reaper

    def fill(self, texts: list[str]) -> list[str]:
        """A stale job of each text: its key, its kind and its worker. Returns the keys."""
        keys = sorted({f"k{text}k" for text in texts})
        self.connection.execute(f"TRUNCATE {quoted(TABLE)}")
        statement = f"INSERT INTO {quoted(TABLE)} VALUES (%s, %s, 'on', now() - interval '9 h', %s, NULL)"
        with self.connection.cursor() as cursor:
            cursor.executemany(statement.encode(), [(key, key[1:-1], key[1:-1]) for key in keys])
        # A change empties the daemon's read cache.
        assert self.daemon.api.post("/api/supervisor/restart").status == 200
        return keys

    def rows(self) -> dict[str, tuple[str, str | None, str]]:
        """By key: state, note, kind."""
        names = ", ".join(map(quoted, (STATE, NOTE, KIND)))
        rows = self.connection.execute(f"SELECT id, {names} FROM {quoted(TABLE)}".encode()).fetchall()
        return {
            str(key): (str(state), note if note is None else str(note), str(kind)) for key, state, note, kind in rows
        }


@pytest.fixture(scope="module")
def odd(server: PrivatePostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    folder = tmp_path_factory.mktemp("odd")
    url = server.create_database("odd", tables=False)
    config = PROFILE.replace("DATABASE_URL", json.dumps(url))
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        columns = f"{quoted(KIND)} text, {quoted(STATE)} text, started timestamptz, worker text, {quoted(NOTE)} text"
        connection.execute(f"CREATE TABLE {quoted(TABLE)} (id text PRIMARY KEY, {columns})".encode())
        with ApiDaemon(folder, config, log_format="console", log_level="debug", interval_seconds=3600) as daemon:
            # It would end the jobs that a test makes.
            wait_until(lambda: daemon.sweeps(source="odd") >= 1, "the sweep at the start")
            yield Odd(connection, daemon, Reaper(folder, {"REAPER_CONFIG": str(daemon.config)}))
    server.drop_database("odd")


@few
@given(st.lists(hostile, min_size=3, max_size=8))
@example(WORST)
def test_hostile_rows_do_no_harm_on_page_api_logs_metrics_and_commands(odd: Odd, texts: list[str]) -> None:
    keys = odd.fill(texts)
    daemon, reaper = odd.daemon, odd.reaper
    listed = daemon.api.get("/api/jobs?limit=100")
    assert {job["id"] for job in listed.json["sources"][0]["jobs"]} == set(keys)
    assert raw(listed.text) == set()
    for path in ("/", *(f"/jobs/odd/{quote(key, safe='')}" for key in keys)):
        page = Page(daemon.api.get(path).text)
        assert raw(page.html) == set(), path
        assert [value for _, name, value in page.attributes if name.startswith("on")] == []
    for words in (("report",), ("sweep", "--dry-run"), ("check",), ("explain", keys[0]), ("sql", "--job", keys[0])):
        result = reaper(*words)
        assert raw(result.stdout + result.stderr) == set(), words
    document = reaper.json("explain", keys[-1])
    assert document["job"]["key"] == keys[-1]
    swept = daemon.api.post("/api/sweeps", {})
    assert (swept.json["sweeps"][0]["reaped"], swept.json["sweeps"][0]["refused"]) == (len(keys), [])
    assert raw(swept.text) == set()
    rows = odd.rows()
    assert rows.keys() == set(keys)
    for key, (state, note, kind) in rows.items():
        assert (state, kind) == ("dead", key[1:-1])
        assert note is not None and note.startswith("No sign of life for ")
    assert raw(daemon.api.get("/metrics").text) == set()
    assert raw(daemon.api.get("/api/endings").text) == set()
    assert raw(daemon.stderr.read_text()) == set()


def received(connection: socket.socket) -> str:
    """All that comes until the other end closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces).decode()


@few
@given(st.lists(hostile, min_size=6, max_size=12))
@example(WORST)
def test_hostile_requests_and_reasons_do_no_harm(odd: Odd, texts: list[str]) -> None:
    daemon = odd.daemon
    for text in texts:
        path = quote(text, safe="")
        for method in ("GET", "POST"):
            with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
                head = f"{method} /{path}?kind={path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
                answer = received(connection)
            assert raw(answer.replace("\r\n", "\n")) == set()
            assert " 500 " not in answer.partition("\n")[0]
        [key] = odd.fill(["a job"])
        started = daemon.api.job(key, "odd").json["job"]["started"]
        ended = daemon.api.post(f"{daemon.api.at(key, 'odd')}/fail", {"started": started, "reason": text})
        assert ended.status == (200 if is_reason(text) and len(text) <= 500 else 422), ended.text
        assert raw(ended.text) == set()
        _, note, _ = odd.rows()[key]
        assert (note is not None) == (ended.status == 200)
        assert raw(note or "") == set()
    assert raw(daemon.stderr.read_text()) == set()


@settings(few, max_examples=5)
@given(hostile, hostile)
@example(*WORST[:2])
@example(*WORST[2:4])
@example(*WORST[4:6])
def test_hostile_configuration_is_refused_or_shown_in_words(tmp_path: Path, name: str, value: str) -> None:
    """As names of kinds, sources, profiles and columns, and as values; never a traceback, and never a raw character."""
    text = json.dumps(name), json.dumps(value)
    config = tmp_path / "reaper.toml"
    for written in (
        "[kinds.{0}]\ntimeout = {1}",
        '[sources.{0}]\nprofile = "protea"',
        "[sources.a]\nprofile = {0}\naction = {1}",
        '[profiles.a]\nextends = "protea"\n[profiles.a.jobs]\ntable = {0}\n[profiles.a.actions.fail.set]\n{0} = {1}',
        "{0} = {1}",
        "log_level = {1}",
    ):
        config.write_text(written.format(*text))
        reaper = Reaper(tmp_path, {"REAPER_CONFIG": str(config), "REAPER_DATABASE_URL": AWAY})
        for words in (("config", "check"), ("sql", "--offline")):
            result = reaper(*words)
            assert result.exit_code in (0, 2, 78), result.output
            assert raw(result.stdout + result.stderr) == set(), words


@given(st.sampled_from(["password", "sslpassword", "scram_client_key", "oauth_client_secret", "options", "dbname"]),
       st.data())  # fmt: skip
@settings(max_examples=100, deadline=None, derandomize=True)
def test_secret_in_a_url_is_never_shown_however_its_name_is_spelled(name: str, data: st.DataObject) -> None:
    spelled = "".join(f"%{ord(c):02x}" if data.draw(st.booleans()) else c for c in name)
    value = {"options": "-c%20app.key%3Dhunter2", "dbname": "password%3Dhunter2"}.get(name, "hunter2")
    url = f"postgresql://someone@host/orders?sslmode=require&{spelled}={value}"
    try:
        shown = load({}, {"REAPER_DATABASE_URL": url}).described()
    except ConfigError as error:
        assert "hunter2" not in str(error)
        return
    assert "hunter2" not in str(shown)
    assert "sslmode=require" in str(shown)
