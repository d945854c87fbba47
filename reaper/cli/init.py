"""`reaper init`: looks at a database, and writes a first configuration for it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from reaper.cli import exit_codes
from reaper.common.terminal import say, warn
from reaper.config import load_database
from reaper.errors import ReaperError
from reaper.proposal.recognise import NearlyFound, recognise
from reaper.proposal.render import file_text, system_part
from reaper.proposal.session import looking_at


@click.command("init", short_help="Look at a database, and write a configuration for it.")
@click.option("--database-url", metavar="URL", help="The database. [default: REAPER_DATABASE_URL, or its file]")
@click.option(
    "--write",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a new file. [default: standard output]",
)
def command(database_url: str | None, file: Path | None) -> int:
    """Look at a database, and write a configuration for it.

    Recognises the job systems that the reaper knows, by their tables. The configuration only watches (observe = true):
    the reaper judges the jobs, and ends none. Each line says why it is there, and "# ?" marks what you should look at.
    A password is never written.

    Reads the catalogs, in a transaction that only reads, and changes nothing.

    \b
    Example:
      reaper init --write reaper.toml
    """
    if file is not None and os.path.lexists(file):
        raise ReaperError(f"{file} exists, and was not changed: name a new file")
    database = load_database(database_url, os.environ)
    with looking_at(database) as look:
        systems, near = recognise(look.catalog, look.connection)
    for nearly in near:
        warn(_near_text(nearly))
    if not systems:
        raise ReaperError(
            "no job system was recognised by its tables, and nothing was written; a table of your own is described in "
            "a profile: see 'Watch your own table' in the documents"
        )
    text = file_text(database, [system_part(system, has_broker=database.has_broker) for system in systems])
    if file is None:
        click.echo(text, nl=False)
        return exit_codes.DONE
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    say(f"{file}: written. Sources: {', '.join(system.name for system in systems)}.")
    for number, step in enumerate(("check", "grants", "sweep --dry-run", "run"), 1):
        say(f"  {number}. reaper --config {file} {step}")
    return exit_codes.DONE


def _near_text(near: NearlyFound) -> str:
    missing = ", ".join(near.missing[:5]) + (", ..." if len(near.missing) > 5 else "")
    return (
        f"{near.table} looks like a table of {near.profile}, and lacks {missing}: it may be of another version; "
        f'profile = "{near.profile}" and `reaper check` say more'
    )
