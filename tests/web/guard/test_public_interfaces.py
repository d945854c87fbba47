"""uvicorn is used through its public names alone, so that its releases change nothing for the reaper.

One of these names is public and not documented: how uvicorn makes the protocol of a connection. uvicorn's own timeouts
begin when a request is complete; a client that sends its head byte by byte is kept for ever. Connections are therefore
accepted by the reaper, which puts its own time limits before uvicorn's protocol. pyproject.toml caps uvicorn for that.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

import reaper.web

SOURCES = sorted(Path(reaper.web.__file__).parent.rglob("*.py"))


def trees() -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        yield path.name, ast.parse(path.read_text())


def test_uvicorn_is_imported_by_its_server_module_alone_and_without_private_modules() -> None:
    imported = {
        (name, alias.name if isinstance(node, ast.Import) else node.module)
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if "uvicorn" in (alias.name if isinstance(node, ast.Import) else node.module or "")
    }
    assert imported == {("server.py", "uvicorn")}


def test_private_attributes_of_other_objects_are_not_touched() -> None:
    touched = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]
    assert touched == []


def test_classes_of_uvicorn_are_not_extended() -> None:
    bases = {ast.unparse(base) for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
             for base in node.bases}  # fmt: skip
    assert not [base for base in bases if "uvicorn" in base.lower() or "H11" in base]


@pytest.mark.parametrize("name", ["config", "server_state", "app_state"])
def test_uvicorn_makes_a_protocol_from_config_server_state_and_app_state(name: str) -> None:
    config = uvicorn.Config(app=lambda: None, http="h11", log_config=None)
    config.load()
    assert name in inspect.signature(config.http_protocol_class).parameters
    assert uvicorn.Server(config).server_state.default_headers == []
