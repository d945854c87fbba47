"""`reaper run`: the daemon."""

from __future__ import annotations

import signal

import click

from reaper.cli.sources import settings_of


@click.command("run", short_help="Sweep every source on schedule until told to stop.")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Sweep every source on schedule until told to stop.

    SIGTERM and SIGINT end it after the batch in hand; SIGHUP makes it read its configuration again. A database that is
    away is no reason to end: the daemon waits for it.

    \b
    Example:
      REAPER_DATABASE_URL=postgresql://reaper@db/app reaper run
    """
    # Until the daemon handles SIGHUP. A reload that is asked for now is not lost: the configuration is read below.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = settings_of(ctx)
    from reaper.daemon import main  # after the line above: the import takes a second

    return main.run(settings, lambda: settings_of(ctx))
