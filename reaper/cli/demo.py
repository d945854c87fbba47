"""`reaper demo`: a minute of real life, on a database of its own."""

from __future__ import annotations

import click

from reaper.dev import demo


@click.command("demo", short_help="Watch workers crash, hang and be reaped, in a minute.")
@click.option("--plain", is_flag=True, help="Plain lines, even on a terminal.")
def command(plain: bool) -> int:
    """Watch workers crash, hang and be reaped, in a minute.

    Starts a private PostgreSQL, a dozen worker processes and the daemon, and takes them away afterwards. Exit status 0
    only when every verdict was right.

    \b
    Example:
      reaper demo
    """
    return demo.run(plain=plain)
