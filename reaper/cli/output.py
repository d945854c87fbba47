"""Output of commands: one versioned JSON document on stdout, and errors as plain lines on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import click

from reaper.common.json_values import to_jsonable
from reaper.common.terminal import say, shown, to_stderr

VERSION = 1
"""Is incremented when a member is renamed, removed or changes its meaning; not when one is added."""

JSON_COMMAND_KEY = "reaper.json"
"""In `ctx.meta`: the name of the command, once --json was read. From then on errors are documents, too."""


def write_document(command: str, members: Mapping[str, Any]) -> None:
    """Print the document of a command on stdout."""
    document = {"version": VERSION, "command": command, **{name: to_jsonable(value) for name, value in members.items()}}
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def say_error(line: str) -> None:
    """One line of an error on stderr."""
    say(to_stderr(shown(line), logging.ERROR))


def report_error(ctx: click.Context, error: Exception, lines: Iterable[str], code: int) -> int:
    """Print an error: `lines` on stderr, and a document with --json. Returns `code`, the exit status."""
    for line in lines:
        say_error(line)
    if command := ctx.meta.get(JSON_COMMAND_KEY):
        write_document(command, {"error": str(error)})
    return code
