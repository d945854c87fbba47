"""The private names of other libraries that the reaper needs, each with the reason and a version that is capped.

- PyMySQL `_read_timeout`, `_write_timeout`: the driver takes time limits only when it connects. A connection has a
  short limit while it connects and afterwards that of its statements; there is no public way to change it.
- PyMySQL `_secure`: the driver leaves a Unix socket open when connecting fails, so the reaper connects it. The driver
  sends passwords in clear text only over a connection that it knows to be secure, and knows that only of its own.
- PyMySQL `_create_ssl_ctx`: the driver reads all certificates that the system trusts for each connection, also when it
  checks none. A context that is handed to it makes TLS compulsory, which not every server offers.
- SQLAlchemy `_from_objects` and `_traverse_internals`: what a piece of SQL selects from, and what it consists of;
  elements of one's own have no public way to say it.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pymysql.connections import Connection
from sqlalchemy import Label
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

import reaper

PACKAGE = Path(reaper.__file__).parent
PROJECT = PACKAGE.parent
DOCUMENTED = {"_asdict", "_replace", "_exit", "_mapping", "_open"}
"""Public in spite of the underscore: of named tuples, `os`, SQLAlchemy's rows and file handlers of `logging`."""


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    return {requirement.name: requirement for requirement in map(Requirement, listed)}


@pytest.mark.parametrize("name", ["pymysql", "sqlalchemy", "uvicorn"])
def test_library_whose_undocumented_names_are_used_has_an_upper_version(name: str) -> None:
    assert any(specifier.operator == "<" for specifier in requirements()[name].specifier)


def test_sqlalchemy_has_the_private_name_that_the_engine_sets() -> None:
    assert hasattr(PGDialect_psycopg, "_get_default_schema_name")


@pytest.mark.parametrize("name", ["_read_timeout", "_write_timeout", "_secure"])
def test_pymysql_has_the_private_name_that_the_connection_sets(name: str) -> None:
    connection = Connection(defer_connect=True, read_timeout=3, write_timeout=3)
    assert getattr(connection, name) == (False if name == "_secure" else 3)


def test_pymysql_has_the_private_method_that_the_connection_overrides() -> None:
    assert hasattr(Connection, "_create_ssl_ctx")


@pytest.mark.parametrize("name", ["_from_objects", "_traverse_internals"])
def test_sqlalchemy_has_the_private_name_that_elements_define(name: str) -> None:
    assert hasattr(Label, name)


def test_private_names_of_other_libraries_are_few_and_known() -> None:
    touched = set[tuple[str, str]]()
    for path in PACKAGE.rglob("*.py"):
        attributes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
        own = {
            node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
        }
        touched |= {
            (path.relative_to(PACKAGE).as_posix(), node.attr)
            for node in attributes
            if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own | DOCUMENTED
        }
    assert touched == {
        ("database/mariadb/connection.py", "_create_ssl_ctx"),
        ("sql/elements.py", "_from_objects"),
        # Only this lets a new connection ask nothing along the role's own search path.
        ("database/postgresql/__init__.py", "_get_default_schema_name"),
    }
