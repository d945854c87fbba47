"""The plan of the house, where import-linter does not hold it: who makes statements, and whose clock counts."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
    "grants",
    "dev",
)
"""Only these may name tables and columns; all other packages call them. `memory` has tables of its own."""

ALLOWED_EVERYWHERE = {"Connection", "DBAPIError", "make_url"}
HOST_CLOCK = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}


def called(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


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


def test_no_verdict_hangs_on_this_machines_clock() -> None:
    """Ages and silences are the database's; time.monotonic measures how long something of our own takes."""
    found = {called(path): {call for call in calls(path) if call in HOST_CLOCK} for path in MODULES}
    assert not {path: clocks for path, clocks in found.items() if clocks}


def test_package_is_found_and_its_imports_are_read() -> None:
    assert len(MODULES) > 150
    assert set(from_sqlalchemy(PACKAGE / "sweep" / "sweep.py")) == {"Connection", "DBAPIError"}
    assert "TableClause" in set(from_sqlalchemy(PACKAGE / "sql" / "tables.py"))
    assert "time.monotonic" in set(calls(PACKAGE / "scheduling" / "source_runner.py"))


def test_class_names_are_unique_but_for_the_two_versions_of_one_thing() -> None:
    """`Branch` and `TimedConnection` have a version for PostgreSQL and one for MariaDB."""
    names = Counter(node.name for path in MODULES for node in parsed(path) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == {"Branch", "TimedConnection"}


def test_test_files_that_take_long_exist() -> None:
    """One that was renamed would be begun last, and waited for."""
    tests = Path(__file__).parent
    assert [name for name in LONG if not (tests / f"{name}.py").exists()] == []
