"""`reaper sql`: the SQL statements of the reaper, for a database administrator."""

from __future__ import annotations

from collections.abc import Iterator

import click

from reaper.cli import output
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import load_settings, select_sources
from reaper.common.terminal import shown
from reaper.source import Source
from reaper.sql_listing import ListingOptions, Statement, list_statements
from reaper.sweep.options import MAX_LISTED


@click.command("sql", short_help="Print the statements that the reaper runs.")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Print the statements that the reaper runs, with their parameters and the locks that they take.

    Asks no database. Parameters are written :name, as in psql.

    \b
    Example:
      reaper sql | less
    """
    settings = load_settings(ctx)
    options = ListingOptions(settings.interval_seconds, settings.statement_timeout_seconds, max_named_jobs=MAX_LISTED)
    statements_of = {opened: list(list_statements(opened, options)) for opened in select_sources(settings, source)}
    if as_json:
        members = [{"source": opened.name, "statements": statements} for opened, statements in statements_of.items()]
        output.write_document("sql", {"sources": members})
        return
    for opened, statements in statements_of.items():
        for line in _lines(opened, statements):
            click.echo(shown(line))


def _lines(source: Source, statements: list[Statement]) -> Iterator[str]:
    yield f"-- Source {source.name}, profile {source.profile.name}"
    for number, statement in enumerate(statements, start=1):
        yield ""
        yield f"-- {number}. {statement.name}: {statement.purpose}"
        yield f"-- Locks: {statement.locks}."
        yield from f"{statement.sql};".splitlines()
        for name, meaning in statement.parameters.items():
            yield f"--   :{name} = {meaning}"
