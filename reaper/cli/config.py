"""`reaper config show`: what is in force, and where it came from."""

from __future__ import annotations

import os

import click

from reaper.cli import document
from reaper.cli.options import json_option
from reaper.cli.screen import cell, make_console, make_table, put
from reaper.settings import load


@click.group("config", short_help="Show the configuration in force.")
def command() -> None:
    """Show the configuration in force.

    \b
    Example:
      reaper config show
    """


@command.command("show", short_help="Every value, without secrets, and where it came from.")
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Every value, without secrets, and where it came from.

    \b
    Example:
      reaper --config /etc/reaper/reaper.toml config show
    """
    rows = load({"config": ctx.obj}, os.environ).described()
    if as_json:
        values = [{"name": name, "value": value, "origin": origin} for name, value, origin in rows]
        document.write("config show", {"values": values})
        return
    table = make_table(["name", "value", "from"], whole=["name"])
    for name, value, origin in rows:
        table.add_row(cell(name), cell(value), cell(origin, "dim" if origin == "default" else ""))
    put(make_console(), table)
