"""`reaper fail`: an operator ends one job."""

from __future__ import annotations

import socket

import click

from reaper.cli import output
from reaper.cli.job_argument import find
from reaper.cli.operator import action_of, operator
from reaper.cli.options import action_option, job_argument, json_option, reason_option, source_option
from reaper.cli.sources import selected, settings_of
from reaper.common import messages
from reaper.common.terminal import shown
from reaper.errors import JobChanged
from reaper.model import Key, ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.operations.explain import locate
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker


@click.command("fail", short_help="End one running job by hand.")
@job_argument
@reason_option
@action_option("What becomes of the job: one of its profile's actions. [default: fail]")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, job: str, reason: str, action: str | None, source: str | None, as_json: bool) -> None:
    """End one running job by hand, whatever its signs of life.

    With the lock and the audit event of a sweep, and ManualTimeout as its error code. Refused, with exit status 1, for
    a job that does not run, or whose row somebody holds. The job's worker is not told: end it first.

    Another of the profile's actions, such as complete or delete, ends the job in that way.

    \b
    Example:
      reaper fail 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11 --reason 'its node is gone'
    """
    settings = settings_of(ctx)
    place, key = find(selected(settings, source), job, locate, sure=True)
    taken = action_of(settings.sources[place.name], action or "fail")
    decision = ManualEnd(operator=operator(), host=socket.gethostname(), reason=reason, action=taken)
    with prefix_errors(place), CommandLog(settings) as command_log:
        ended = _end(place, key, new_downtime_tracker(settings), decision, command_log)
    if as_json:
        members = {"source": place.name, "reaped": ended, "action": taken, "message": decision.message}
        output.write("fail", {**members, "operator": decision.operator})
    else:
        did = "Failed" if taken == "fail" else f"Action {taken}:"
        click.echo(shown(f"{did} job {messages.format_key(key)} in source {place.name} ({ended.reason})."))


def _end(place: Source, key: Key, downtime: DowntimeTracker, decision: ManualEnd, command_log: CommandLog) -> ReapedJob:
    try:
        return fail(place, downtime, key, decision, command_log)
    except JobChanged as error:
        raise JobChanged(f"job {messages.format_key(key)} {error}") from None
