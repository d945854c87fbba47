"""`reaper fail`: an operator ends one running job."""

from __future__ import annotations

import socket

import click

from reaper.cli import exit_codes, output
from reaper.cli.invocation import ended_by, is_interactive, operator_name, require_action
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
from reaper.model import Evidence, Key, ReapedJob, Verdict
from reaper.observers.command_log import CommandLog
from reaper.operations.explain import explain, locate
from reaper.operations.fail import ExpectedStart, ManualEnd, fail
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
@click.option("--yes", is_flag=True, help="Do not ask.")
@while_observed_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    job: str,
    reason: str,
    action: str | None,
    source: str | None,
    yes: bool,
    while_observed: bool,
    as_json: bool,
) -> int:
    """End one running job by hand, whatever its signs of life.

    On a terminal it shows whether the job looks alive, and asks; elsewhere its name is the decision. Uses the lock and
    writes the audit event of a sweep, with error code ManualTimeout. Exit status 1 when the job is not running, or
    another session holds a lock on its row. The worker is not notified: stop it first. A key that begins with - comes
    last, after --.

    --action uses another action of the profile, such as complete or delete.

    \b
    Example:
      reaper fail 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11 --reason 'its node is gone'
    """
    settings = GuardPasses(while_observed=while_observed).applied_to(load_settings(ctx))
    sources = select_sources(settings, source)
    place, key = find_job(sources, job, locate, all_sources_must_answer=True)
    chosen_action = require_action(settings.sources[place.name], action or "fail")
    downtime, expected = new_downtime_tracker(settings), None
    if not yes and is_interactive():
        with prefix_errors(place):
            seen = explain(place, downtime, job).evidence
        if seen.verdict is not Verdict.ENDED and not _confirmed(seen, chosen_action):
            return exit_codes.DONE
        expected = ExpectedStart(seen.started)
    decision = ManualEnd(operator=operator_name(), host=socket.gethostname(), reason=reason, action=chosen_action)
    with prefix_errors(place), CommandLog(settings, ended_by("fail")) as command_log:
        ended = _end(place, key, downtime, decision, command_log, expected)
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
    return exit_codes.DONE


def _confirmed(seen: Evidence, action: str) -> bool:
    """Whether a person who has seen how alive the job looks wants it ended."""
    job = f"job {messages.format_key(seen.key)} ({seen.kind})" if seen.kind else f"job {messages.format_key(seen.key)}"
    click.echo(shown(f"{job}: {seen.verdict}: {messages.describe_verdict(seen)}."), err=True)
    return click.confirm(f"End it with the action {action}?", err=True)


def _end(
    source: Source,
    key: Key,
    downtime: DowntimeTracker,
    decision: ManualEnd,
    command_log: CommandLog,
    expected: ExpectedStart | None,
) -> ReapedJob:
    """`expected`: the run that was in the question."""
    try:
        return fail(source, downtime, key, decision, command_log, expected)
    except JobChanged as error:
        raise JobChanged(f"job {messages.format_key(key)} {error}") from None
