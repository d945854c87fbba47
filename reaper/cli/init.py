"""`reaper init`: looks at a database, and writes a first configuration for it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from reaper.cli import exit_codes
from reaper.cli.init_questions import ask_about, ask_zone, choose
from reaper.cli.invocation import is_interactive
from reaper.cli.options import validate_duration, validate_text
from reaper.common.durations import DurationRange
from reaper.common.terminal import say, warn
from reaper.config import DatabaseSettings, load_database
from reaper.errors import ReaperError
from reaper.proposal.own_table import likely_tables, look_at_table, zone_for
from reaper.proposal.recognise import NearlyFound, System, recognise
from reaper.proposal.render import file_text, proposal_part, system_part
from reaper.proposal.session import looking_at

_WATCH = DurationRange("0s", "10m")


@click.command("init", short_help="Look at a database, and write a configuration for it.")
@click.option("--database-url", metavar="URL", help="The database. [default: REAPER_DATABASE_URL, or its file]")
@click.option("--table", metavar="TABLE", callback=validate_text, help="A table of jobs of your own, or SCHEMA.TABLE.")
@click.option(
    "--watch",
    default="5s",
    show_default=True,
    metavar="DURATION",
    callback=validate_duration(_WATCH),
    help="How long to wait between two looks at this table, to see what moves while jobs run; 0s: look once.",
)
@click.option(
    "--write",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a new file. [default: standard output]",
)
def command(database_url: str | None, table: str | None, watch: float, file: Path | None) -> int:
    """Look at a database, and write a configuration for it.

    Recognises the job systems that the reaper knows, by their tables. For a table of your own (--table, or the only one
    that looks like a table of jobs), proposes a profile: by names, types, keys, and some rows that it reads twice. The
    configuration only watches (observe = true): the reaper judges the jobs, and ends none. Each line says why it is
    there, and "# ?" marks what you should look at; on a terminal it asks. A password is never written.

    Reads in short transactions that only read, and changes nothing.

    \b
    Example:
      reaper init --write reaper.toml
    """
    if file is not None and os.path.lexists(file):
        raise ReaperError(f"{file} exists, and was not changed: name a new file")
    database = load_database(database_url, os.environ)
    parts = _own_table(database, table, watch) if table is not None else _systems(database, watch)
    text = file_text(database, list(parts.values()))
    if file is None:
        click.echo(text, nl=False)
        return exit_codes.DONE
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    say(f"{file}: written. Sources: {', '.join(parts)}.")
    for number, step in enumerate(("check", "grants", "sweep --dry-run", "run"), 1):
        say(f"  {number}. reaper --config {file} {step}")
    return exit_codes.DONE


def _systems(database: DatabaseSettings, watch: float) -> dict[str, str]:
    """The parts of the file, by the name of the source: for the systems that were recognised, else for the only table
    that looks like one of jobs.
    """
    with looking_at(database) as look:
        systems, near = recognise(look.catalog, look.connection)
        likely = [".".join(place) for place in likely_tables(look.catalog.every_table())]
    for nearly in near:
        warn(_near_text(nearly))
    known = {table for system in systems for table in system.tables}
    others = [table for table in likely if table not in known]
    if systems:
        for table in others:
            say(f"{table} looks like a table of jobs, too: reaper init --table {table}")
        return {system.name: _system_part(database, system) for system in systems}
    if others and (len(others) == 1 or is_interactive()):
        one = others[0] if len(others) == 1 else choose("Which table has the jobs?", others, None)
        return _own_table(database, one, watch)
    found = f"these look like tables of jobs: {', '.join(others)}. Choose one" if others else "name your table of jobs"
    raise ReaperError(f"no job system was recognised by its tables; {found} with --table")


def _own_table(database: DatabaseSettings, table: str, watch: float) -> dict[str, str]:
    seen = look_at_table(database, table, watch)
    if seen.system is not None:
        say(f"{table} is a table of {seen.system}: without --table, reaper init writes the source of that system")
    proposal = ask_about(seen) if is_interactive() else seen.propose({})
    zone = zone_for(database, seen, proposal)
    return {proposal.name: proposal_part(proposal, ask_zone(zone, table) if is_interactive() else zone)}


def _system_part(database: DatabaseSettings, system: System) -> str:
    if is_interactive():
        system = replace(system, zone=ask_zone(system.zone, system.name))
    return system_part(system, has_broker=database.has_broker)


def _near_text(near: NearlyFound) -> str:
    missing = ", ".join(near.missing[:5]) + (", ..." if len(near.missing) > 5 else "")
    return (
        f"{near.table} looks like a table of {near.profile}, and lacks {missing}: it may be of another version; "
        f'profile = "{near.profile}" and `reaper check` say more'
    )
