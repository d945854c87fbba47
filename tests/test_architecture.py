"""The plan of the house, where import-linter does not hold it: who makes statements, and whose clock counts."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reaper.memory.memory import FILE
from tests.conftest import LONG

PACKAGE = Path(__file__).parents[1] / "reaper"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAKES_STATEMENTS = (
    "sql",
    "memory",
    "staleness",
    "database",
    "source",
    "fence",
    "sql_listing",
    "catalog",
    "check",
    "proposal",
    "grants",
    "dev",
)
"""Only these may name tables and columns; all other packages call them. `memory` has tables of its own."""

ALLOWED_EVERYWHERE = {"Connection", "DBAPIError", "make_url"}
HOST_CLOCK = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
COMPARES_CLOCKS = {"cli/check.py": {"time.time"}}
"""`reaper check` compares the host's clock with the database's."""


def called(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@cache
def parsed(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def calls(path: Path) -> Iterator[str]:
    """What it calls, as it is written there."""
    yield from (ast.unparse(node.func) for node in parsed(path) if isinstance(node, ast.Call))


def from_sqlalchemy(path: Path) -> Iterator[str]:
    for node in parsed(path):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] == "sqlalchemy")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sqlalchemy":
            yield from (name.name for name in node.names)


def test_statements_are_made_in_a_few_places_only() -> None:
    elsewhere = [path for path in MODULES if called(path).partition("/")[0].removesuffix(".py") not in MAKES_STATEMENTS]
    found = {called(path): set(from_sqlalchemy(path)) - ALLOWED_EVERYWHERE for path in elsewhere}
    assert not {path: names for path, names in found.items() if names}


def host_clocks(tree: list[ast.AST]) -> set[str]:
    """The reads of the host's clock: called, or passed on to be called, or imported under a name of their own."""
    named = {".".join(ast.unparse(node).split(".")[-2:]) for node in tree if isinstance(node, ast.Attribute)}
    imports = [node for node in tree if isinstance(node, ast.ImportFrom)]
    imported = {f"{node.module}.{name.name}" for node in imports for name in node.names}
    return (named | imported) & HOST_CLOCK


def test_no_verdict_hangs_on_this_machines_clock() -> None:
    """Ages and silences are the database's; time.monotonic measures how long something of our own takes."""
    found = {called(path): host_clocks(parsed(path)) for path in MODULES}
    assert {path: clocks for path, clocks in found.items() if clocks} == COMPARES_CLOCKS


@pytest.mark.parametrize(
    "text",
    [
        "time.time()",
        "def f(epoch=time.time): ...",
        "from time import time as epoch",
        "datetime.datetime.now(UTC)",
        "map(datetime.fromtimestamp, [])\nclock = datetime.now",
    ],
)
def test_host_clock_is_found_in_calls_references_and_imports(text: str) -> None:
    assert host_clocks(list(ast.walk(ast.parse(text))))
    assert not host_clocks(list(ast.walk(ast.parse("time.monotonic()\nfrom datetime import datetime"))))


def test_package_is_found_and_its_imports_are_read() -> None:
    assert len(MODULES) > 150
    assert set(from_sqlalchemy(PACKAGE / "sweep" / "sweep.py")) == {"Connection", "DBAPIError"}
    assert "TableClause" in set(from_sqlalchemy(PACKAGE / "sql" / "tables.py"))
    assert "time.monotonic" in set(calls(PACKAGE / "scheduling" / "source_runner.py"))


def test_class_names_are_unique_but_for_the_two_versions_of_one_thing() -> None:
    """`Branch` and `TimedConnection` have a version for PostgreSQL and one for MariaDB."""
    names = Counter(node.name for path in MODULES for node in parsed(path) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == {"Branch", "TimedConnection"}


def test_contributing_lists_every_layer_in_the_order_of_the_imports() -> None:
    project = PACKAGE.parent
    contracts = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [set(layer.split(" | ")) - {"__main__"} for layer in contracts["contracts"][0]["layers"]]
    rows = re.findall(r"^\| (`.*) \|.*\|$", (project / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row)]
    position = {name: number for number, layer in enumerate(layers) for name in layer}
    assert set(listed) == set(position)
    assert [position[name] for name in listed] == sorted(position.values())


def test_state_file_has_its_name_wherever_it_is_documented() -> None:
    project = PACKAGE.parent
    for name in ("CHANGELOG.md", "config/reaper.toml", "docs/reference/settings.md"):
        text = (project / name).read_text(encoding="utf-8")
        assert set(re.findall(r"[\w.-]+\.sqlite3?\b", text)) == {FILE}, name


def test_test_files_that_take_long_exist() -> None:
    """A renamed file would be begun last, and waited for."""
    tests = Path(__file__).parent
    assert [name for name in LONG if not (tests / f"{name}.py").exists()] == []


def test_top_level_has_the_places_that_services_and_scripts_name() -> None:
    project = PACKAGE.parent
    places = ("pyproject.toml", "reaper", "config", "tests", "systemd", "scripts", "logs")
    assert [name for name in places if not (project / name).exists()] == []
