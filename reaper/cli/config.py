"""`reaper config`: what is in force and where it came from, and whether a daemon would take it."""

from __future__ import annotations

import os

import click

from reaper.cli import output
from reaper.cli.console import cell, make_console, make_table, put
from reaper.cli.options import json_option
from reaper.cli.sources import settings_of
from reaper.config import load


@click.group("config", short_help="Show the configuration in force, or check it.")
def command() -> None:
    """Show the configuration in force, or check it.

    \b
    Example:
      reaper config show
    """


@command.command("check", short_help="Whether the daemon would take it.")
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Whether the daemon would take it, at a start and at a reload. Everything that is wrong is told at once, with
    exit status 78. No database is asked: that does `reaper check`.

    \b
    Example:
      reaper --config /etc/reaper/reaper.toml config check
    """
    settings = settings_of(ctx)
    # Only now: it is what a daemon is made of.
    from reaper.daemon.reload import validate

    validate(settings)
    if as_json:
        output.write("config check", {"sources": sorted(settings.sources)})
        return
    click.echo(f"The configuration is right. Sources: {', '.join(sorted(settings.sources))}.")


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
        output.write("config show", {"values": values})
        return
    table = make_table(["name", "value", "from"], whole=["name"])
    for name, value, origin in rows:
        table.add_row(cell(name), cell(value), cell(origin, "dim" if origin == "default" else ""))
    put(make_console(), table)
