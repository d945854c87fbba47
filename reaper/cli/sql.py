"""`reaper sql`: the statements, for a database administrator."""

from __future__ import annotations

from collections.abc import Iterator

import click

from reaper.cli import document
from reaper.cli.document import shown
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import chosen, settings_of
from reaper.orders import SHOWN
from reaper.source import Source
from reaper.source.script import Statement, Terms, script


@click.command("sql", short_help="Print the statements that the reaper runs.")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Print the statements that the reaper runs, with their parameters and the locks that they take.

    No database is asked. Parameters are spelled :name, as psql does.

    \b
    Example:
      reaper sql | less
    """
    settings = settings_of(ctx)
    terms = Terms(settings.interval_seconds, settings.statement_timeout_seconds, named=SHOWN)
    found = {each: list(script(each, terms)) for each in chosen(settings, source)}
    if as_json:
        members = [{"source": each.name, "statements": statements} for each, statements in found.items()]
        document.write("sql", {"sources": members})
        return
    for each, statements in found.items():
        for line in _lines(each, statements):
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
