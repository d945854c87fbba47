"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from reaper.cli import output
from reaper.common.durations import parse_duration

_LONGEST = 86400.0


def validate_text(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
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
    "--json", "as_json", is_flag=True, callback=output.wanted, help="Print one JSON document instead of tables."
)
source_option = click.option("--source", metavar="NAME", help="Only this source. [default: every source]")
kind_option = click.option("--kind", metavar="KIND", callback=validate_text, help="Only jobs of this kind.")
job_argument = click.argument("job", callback=validate_text)
reason_option = click.option(
    "--reason", required=True, metavar="TEXT", callback=validate_text, help="Why, for the job's error message."
)


def reason_option_with(default: str) -> Callable[[Any], Any]:
    """The same, for those in a hurry."""
    return click.option(
        "--reason",
        default=default,
        show_default=True,
        metavar="TEXT",
        callback=validate_text,
        help="Why, for the jobs.",
    )


def action_option(told: str) -> Callable[[Any], Any]:
    return click.option("--action", metavar="NAME", callback=validate_text, help=told)


def duration(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """The callback of an option that is a duration of at most a day, in seconds."""
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None
    if not 0 < seconds <= _LONGEST:
        raise click.BadParameter("expected more than 0s and at most 1d", param=param)
    return seconds
