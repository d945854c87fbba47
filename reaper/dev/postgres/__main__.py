"""`python -m reaper.dev.postgres start|stop|status|url|log DIRECTORY`, for scripts/manage.sh."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from reaper.dev.postgres import FIRST_RUN_DATABASE, PrivatePostgreSQL
from reaper.errors import ReaperError


@click.command(help="Control the private PostgreSQL in DIRECTORY; its database has the protea tables.")
@click.argument("what", type=click.Choice(["start", "stop", "status", "url", "log"]))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def main(what: str, directory: Path) -> None:
    try:
        server = PrivatePostgreSQL(directory)
        if what == "start":
            for new in server.new_things():
                click.echo(f"postgresql: {new}", err=True)
            server.start()
            server.create_database(FIRST_RUN_DATABASE)
        elif what == "stop":
            server.stop()
        pid = server.pid
    except ReaperError as error:
        raise click.ClickException(str(error)) from None
    if what in ("start", "url"):
        click.echo(server.url_of(FIRST_RUN_DATABASE))
    elif what == "log":
        click.echo(server.log)
    elif what == "status":
        click.echo(pid or "stopped")
        sys.exit(0 if pid else 3)


if __name__ == "__main__":
    main()
