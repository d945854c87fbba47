"""`reaper demo`: a one-minute demonstration on a private database."""

from __future__ import annotations

import click

from reaper.dev import demo


@click.command("demo", short_help="Run a one-minute demonstration on a private database.")
@click.option("--plain", is_flag=True, help="Plain lines, even on a terminal.")
def command(plain: bool) -> int:
    """Run a one-minute demonstration on a private database: workers crash, hang and are reaped.

    Starts a private PostgreSQL, a dozen worker processes and the daemon, and removes them afterwards. Exit status 0
    only when every verdict was right.

    \b
    Example:
      reaper demo
    """
    return demo.run(plain=plain)
