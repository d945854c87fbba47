"""`reaper config`: show every setting with its origin, or check whether the daemon would accept them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from reaper.cli import output
from reaper.cli.command_group import CommandGroup
from reaper.cli.console import make_console, make_table, print_table, text_cell
from reaper.cli.options import json_option
from reaper.cli.sources import load_daemon_settings
from reaper.common.terminal import warn
from reaper.config import Settings, load
from reaper.config.error_messages import dotted
from reaper.operations.name_spellings import spellings


@click.group("config", cls=CommandGroup, short_help="Show or check the configuration.")
def command() -> None:
    """Show or check the configuration.

    \b
    Example:
      reaper config show
    """


@command.command("check", short_help="Check whether the daemon would accept the configuration.")
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Check whether the daemon would accept the configuration, at start and at reload.

    Prints every problem. Exit status 78 when there is one. Asks no database; `reaper check` does.

    \b
    Example:
      reaper --config /etc/reaper/reaper.toml config check
    """
    settings = load_daemon_settings(ctx)
    # Imported here: it loads most of the daemon, which `config show` does not need.
    from reaper.daemon.reload import validate

    validate(settings)
    if as_json:
        output.write_document("config check", {"sources": sorted(settings.sources)})
        return
    click.echo(f"The configuration is right. Sources: {', '.join(sorted(settings.sources)) or 'none'}.")


@command.command("show", short_help="Show every setting and its origin, without secrets.")
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show every setting and its origin, without secrets.

    Each database is asked whether it spells names or values of its profile in another case; `spelling` says so. When
    a database does not answer within three seconds, the settings are shown all the same.

    \b
    Example:
      reaper --config /etc/reaper/reaper.toml config show
    """
    settings = load({"config": ctx.obj}, os.environ)
    for note in settings.notes:
        warn(note)
    rows = [*settings.described(), *_spelling_rows(settings)]
    if as_json:
        values = [{"name": name, "value": value, "origin": origin} for name, value, origin in rows]
        output.write_document("config show", {"values": values})
        return
    table = make_table(["name", "value", "from"], unfolded=["name"])
    for name, value, origin in rows:
        table.add_row(text_cell(name), text_cell(value), text_cell(origin, "dim" if origin == "default" else ""))
    print_table(make_console(), table)


def _spelling_rows(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What databases spell otherwise than the profiles."""
    for result in spellings(settings):
        if result.error is not None:
            unknown = "whether its database spells names in another case is not known"
            warn(f"source {result.source}: {unknown}: {result.error}")
        elif result.value:
            yield dotted(("sources", result.source, "spelling")), "; ".join(result.value), "database"
