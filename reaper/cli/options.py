"""Options and arguments that several commands share, and their callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from reaper.cli.output import JSON_COMMAND_KEY
from reaper.common import reasons
from reaper.common.durations import ANY_AGE, DurationRange


def validate_text(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Stripped text that a database can store. Raises BadParameter for anything else."""
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("expected UTF-8 text", param=param) from None
    if "\0" in value or not value.strip():
        raise click.BadParameter("expected text", param=param)
    return value.strip()


def _job_name(_: click.Context, param: click.Parameter, value: str) -> str:
    """The callback of JOB: as it was typed, since blanks may belong to a key. A variable that is not set is refused."""
    if not value or "\0" in value:
        raise click.BadParameter("expected a job's key", param=param)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("expected UTF-8 text", param=param) from None
    return value


def validate_reason(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A reason as HTTP takes it. Raises BadParameter for anything else."""
    reason = validate_text(context, param, value)
    if reason is not None and not reasons.is_reason(reason):
        raise click.BadParameter(reasons.EXPECTED, param=param)
    if reason is not None and len(reason) > reasons.MAX_LENGTH:
        raise click.BadParameter(f"expected at most {reasons.MAX_LENGTH} characters", param=param)
    return reason


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """The callback of --json: from here on errors are printed as a document, too."""
    if value:
        ctx.meta[JSON_COMMAND_KEY] = " ".join(ctx.command_path.split()[1:])
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_note_json, help="Print one JSON document instead of tables."
)
source_option = click.option("--source", metavar="NAME", help="Only this source. [default: every source]")
kind_option = click.option("--kind", metavar="KIND", callback=validate_text, help="Only jobs of this kind.")
job_argument = click.argument("job", callback=_job_name)
reason_option = click.option(
    "--reason",
    required=True,
    metavar="TEXT",
    callback=validate_reason,
    help="Why; part of the job's error message.",
)


def reason_option_with(default: str) -> Callable[[Any], Any]:
    """--reason with a default."""
    return click.option(
        "--reason",
        default=default,
        show_default=True,
        metavar="TEXT",
        callback=validate_reason,
        help="Why; part of the jobs' error message.",
    )


def action_option(help_text: str) -> Callable[[Any], Any]:
    return click.option("--action", metavar="NAME", callback=validate_text, help=help_text)


def validate_duration(within: DurationRange) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """The callback of a duration option: the seconds of a duration of this range."""

    def validate(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            return within.parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), param=param) from None

    return validate


def age_option(help_text: str) -> Callable[[Any], Any]:
    """--older-than, the age that commands ask for."""
    return click.option("--older-than", metavar="DURATION", callback=validate_duration(ANY_AGE), help=help_text)


# --- the guards of commands that end jobs (`reaper.operations.guards`) ---------------------------------------------

while_halted_option = click.option(
    "--while-halted", is_flag=True, help="Go on although the reaper is halted. A halt that follows still stops it."
)
while_observed_option = click.option(
    "--while-observed", is_flag=True, help="Go on although the source is only observed (observe = true)."
)
release_option = click.option(
    "--release",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Let the breaker pass N stale jobs of a source, or fewer.",
)
trust_silence_option = click.option(
    "--trust-silence",
    is_flag=True,
    help="Count silence from before the database server's last start, and while workers reconnected.",
)


def guard_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that pass the guards of a command that ends stale jobs: the fields of `GuardPasses`."""
    return while_halted_option(release_option(trust_silence_option(while_observed_option(command))))
