"""Data as one versioned JSON document on stdout, and everything else in plain lines on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import click

from reaper.common.json_values import to_jsonable
from reaper.common.terminal import say, shown, to_stderr

VERSION = 1
"""Grows when a member is renamed, removed, or means something else; not when one is added."""

_META = "reaper.json"


def wanted(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """The callback of `--json`: from here on even a refusal is a document."""
    if value:
        ctx.meta[_META] = " ".join(ctx.command_path.split()[1:])
    return value


def write(command: str, members: Mapping[str, Any]) -> None:
    """The document, on stdout."""
    whole = {"version": VERSION, "command": command, **{name: to_jsonable(value) for name, value in members.items()}}
    click.echo(json.dumps(whole, indent=2, allow_nan=False))


def refuse(ctx: click.Context, error: Exception, lines: Iterable[str], code: int) -> int:
    """Tell what went wrong. Returns the exit status."""
    for line in lines:
        say(to_stderr(shown(line), logging.ERROR))
    if command := ctx.meta.get(_META):
        write(command, {"error": str(error)})
    return code
