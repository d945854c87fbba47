"""`reaper fail`: an operator ends one running job."""

from __future__ import annotations

import socket

import click

from reaper.cli import output
from reaper.cli.invocation import ended_by, operator_name, require_action
from reaper.cli.job_command import JobCommand
from reaper.cli.options import (
    action_option,
    job_argument,
    json_option,
    reason_option,
    source_option,
    while_observed_option,
)
from reaper.cli.sources import find_job, load_settings, select_sources
from reaper.common import messages
from reaper.common.terminal import shown
from reaper.errors import JobChanged
from reaper.model import Key, ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.operations.explain import locate
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.guards import GuardPasses
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker


@click.command("fail", cls=JobCommand, short_help="End one running job by hand.")
@job_argument
@reason_option
@action_option("How the job is ended: an action of its profile. [default: fail]")
@source_option
@while_observed_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    job: str,
    reason: str,
    action: str | None,
    source: str | None,
    while_observed: bool,
    as_json: bool,
) -> None:
    """End one running job by hand, whatever its signs of life.

    Uses the lock and writes the audit event of a sweep, with error code ManualTimeout. Exit status 1 when the job is
    not running, or another session holds a lock on its row. The worker is not notified: stop it first. A key that
    begins with - comes last, after --.

    --action uses another action of the profile, such as complete or delete.

    \b
    Example:
      reaper fail 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11 --reason 'its node is gone'
    """
    settings = GuardPasses(while_observed=while_observed).applied_to(load_settings(ctx))
    place, key = find_job(select_sources(settings, source), job, locate, all_sources_must_answer=True)
    chosen_action = require_action(settings.sources[place.name], action or "fail")
    decision = ManualEnd(operator=operator_name(), host=socket.gethostname(), reason=reason, action=chosen_action)
    with prefix_errors(place), CommandLog(settings, ended_by("fail")) as command_log:
        ended = _end(place, key, new_downtime_tracker(settings), decision, command_log)
    if as_json:
        members = {
            "source": place.name,
            "reaped": ended,
            "action": chosen_action,
            "message": decision.message,
        }
        output.write_document("fail", {**members, "operator": decision.operator})
    else:
        text = "Failed" if chosen_action == "fail" else f"Action {chosen_action}:"
        click.echo(shown(f"{text} job {messages.format_key(key)} in source {place.name} ({ended.reason})."))


def _end(
    source: Source, key: Key, downtime: DowntimeTracker, decision: ManualEnd, command_log: CommandLog
) -> ReapedJob:
    try:
        return fail(source, downtime, key, decision, command_log)
    except JobChanged as error:
        raise JobChanged(f"job {messages.format_key(key)} {error}") from None
