"""`reaper sql`: the statements of the reaper, and how to end one job by hand, for a database administrator."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import click

from reaper.cli import output
from reaper.cli.invocation import operator_name
from reaper.cli.options import json_option, source_option, validate_text
from reaper.cli.sources import find_job, load_settings, select_sources
from reaper.common import messages
from reaper.common.terminal import shown, warn
from reaper.config import Settings
from reaper.errors import DatabaseUnavailable, JobChanged
from reaper.operations.explain import locate
from reaper.operations.fail import ManualEnd
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import new_downtime_tracker
from reaper.source import AuditInfo, Source
from reaper.sql_listing import ListingOptions, Recipe, Statement, list_recipes, list_statements
from reaper.sweep.options import MAX_LISTED, new_sweep_id

_REASON = "by the statements that `reaper sql` printed"


@click.command("sql", short_help="Print the statements that the reaper runs.")
@click.option(
    "--job", metavar="JOB", callback=validate_text, help="Print how to end this running job by hand, and nothing else."
)
@source_option
@click.option("--offline", is_flag=True, help="Ask no database: names and values are spelled as in the profile.")
@json_option
@click.pass_context
def command(ctx: click.Context, job: str | None, source: str | None, offline: bool, as_json: bool) -> None:
    """Print the statements that the reaper runs, with their parameters and the locks that they take.

    Each database is asked only how it spells names and values. Parameters are written :name, as in psql.

    With --job it reads that job, and prints one transaction for each action of its profile, to paste into psql or the
    MariaDB client. It changes nothing itself. Exit status 1 when the job does not run. Where the reaper can reach the
    database, `reaper fail JOB --action NAME` does the same, and writes it to the log.

    \b
    Example:
      reaper sql | less
      reaper sql --job 5
    """
    settings = load_settings(ctx)
    if job is not None:
        _recipes(settings, job, source, as_json=as_json)
        return
    options = ListingOptions(settings.interval_seconds, settings.statement_timeout_seconds, max_named_jobs=MAX_LISTED)
    sources = select_sources(settings, source)
    for opened in () if offline else sources:
        _spell(opened)
    statements_of = {opened: list(list_statements(opened, options)) for opened in sources}
    if as_json:
        members = [{"source": opened.name, "statements": statements} for opened, statements in statements_of.items()]
        output.write_document("sql", {"sources": members})
        return
    for opened, statements in statements_of.items():
        for line in _lines(opened, statements):
            click.echo(shown(line))


def _spell(source: Source) -> None:
    """Let the source learn how its database spells names; when the database is away, they stay as in the profile."""
    try:
        with prefix_errors(source), source.connect():
            pass
    except DatabaseUnavailable as error:
        warn(f"{error}: names and values are printed as the profile spells them")


def _lines(source: Source, statements: list[Statement]) -> Iterator[str]:
    yield f"-- Source {source.name}, profile {source.profile.name}"
    for number, statement in enumerate(statements, start=1):
        yield ""
        yield f"-- {number}. {statement.name}: {statement.purpose}"
        yield f"-- Locks: {statement.locks}."
        yield from f"{statement.sql};".splitlines()
        for name, meaning in statement.parameters.items():
            yield f"--   :{name} = {meaning}"


def _recipes(settings: Settings, job: str, source: str | None, *, as_json: bool) -> None:
    place, key = find_job(select_sources(settings, source), job, locate, all_sources_must_answer=True)
    name, run_id = messages.format_key(key), new_sweep_id()

    def audit_info(action: str) -> AuditInfo:
        return ManualEnd(operator_name(), socket.gethostname(), _REASON, action).audit_info(place.name, run_id)

    with prefix_errors(place):
        recipes = list_recipes(place, new_downtime_tracker(settings), key, audit_info)
        if not recipes:
            raise JobChanged(f"job {name} is not running: there is nothing to end")
    if as_json:
        output.write_document("sql", {"source": place.name, "job": name, "recipes": recipes})
        return
    for line in _recipe_lines(place, name, recipes):
        click.echo(shown(line))


def _recipe_lines(source: Source, job: str, recipes: Sequence[Recipe]) -> Iterator[str]:
    yield f"-- Job {job} of source {source.name}, profile {source.profile.name}. Paste one of these transactions."
    for number, recipe in enumerate(recipes, start=1):
        same = f" ({', '.join(recipe.same)} does the same)" if recipe.same else ""
        yield ""
        yield f"-- {number}. {recipe.action}{same}"
        yield from recipe.lines
