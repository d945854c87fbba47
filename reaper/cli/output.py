"""Data as one versioned JSON document on stdout, and everything else in plain lines on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reaper.common.json_values import to_jsonable
from reaper.common.terminal import say, shown
from reaper.observers.logging_setup import to_stderr

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


_UNBOUNDED = 10_000
ROOMY = 120
STYLES = {
    "stale": "red",
    "spared": "yellow",
    "young": "green",
    "ended": "dim",
    "error": "bold red",
    "warning": "yellow",
}


def make_console(*, stderr: bool = False) -> Console:
    """Rows are folded to a terminal's width; in a pipe each is one line, without any escape sequence."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.no_color:
        # NO_COLOR is about colours alone; whoever sets it is better served without any escape sequence.
        console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, color_system=None)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def put(console: Console, table: Table) -> None:
    """Print a table; in a pipe without the blanks at the ends of its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True)


def cell(text: str | None, style: str = "") -> Text:
    return Text(shown(text or ""), STYLES.get(text or "", style))


def make_table(columns: Sequence[str], *, whole: Iterable[str] = (), right: Iterable[str] = ()) -> Table:
    """`whole` columns are never folded: names to be copied. `right` ones hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(
            name,
            no_wrap=name in whole or name in right,
            overflow="fold",
            justify="right" if name in right else "left",
        )
    return table


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values side by side."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(cell(name, "bold"), cell(value))
    return table
