"""`reaper run`: the daemon."""

from __future__ import annotations

import signal

import click

from reaper.cli.sources import load_daemon_settings


@click.command("run", short_help="Run the daemon: sweep every source on schedule.")
@click.option("--observe", is_flag=True, help="End nothing: log and show what would be ended. For all sources.")
@click.pass_context
def command(ctx: click.Context, observe: bool) -> int:
    """Run the daemon: sweep every source on schedule.

    SIGTERM and SIGINT end it after the current batch. SIGHUP makes it read its configuration again. While a database
    is unavailable the daemon waits for it.

    \b
    Example:
      REAPER_DATABASE_URL=postgresql://reaper@db/app reaper run
    """
    # Until the daemon handles SIGHUP. A reload that is asked for now is not lost: the configuration is read below.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = load_daemon_settings(ctx, observe=observe or None)
    from reaper.daemon import main  # after the line above: the import takes a second

    return main.run(settings, lambda: load_daemon_settings(ctx, observe=observe or None))
