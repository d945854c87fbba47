"""Options that several commands share."""

from __future__ import annotations

import click

from reaper.cli import document


def _speakable(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Text that a database can be told."""
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8 text", param=param) from None
    if "\0" in value or not value.strip():
        raise click.BadParameter("expected text", param=param)
    return value.strip()


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=document.wanted, help="Print one JSON document instead of tables."
)
source_option = click.option("--source", metavar="NAME", help="Only this source. [default: every source]")
kind_option = click.option("--kind", metavar="KIND", callback=_speakable, help="Only jobs of this kind.")
job_argument = click.argument("job", callback=_speakable)
reason_option = click.option(
    "--reason", required=True, metavar="TEXT", callback=_speakable, help="Why, for the job's error message."
)
