"""`reaper fail`: an operator ends one job."""

from __future__ import annotations

import socket

import click

from reaper import words
from reaper.cli import document
from reaper.cli.document import shown
from reaper.cli.ledger import Ledger
from reaper.cli.lookup import Place, find
from reaper.cli.options import action_option, job_argument, json_option, reason_option, source_option
from reaper.cli.person import action_of, operator
from reaper.cli.sources import chosen, hearing_of, settings_of
from reaper.hearing import Hearing
from reaper.model import JobMoved, Reaped
from reaper.operations.manual import Decision, fail
from reaper.operations.naming import named


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
    place = find(chosen(settings, source), job, sure=True)
    taken = action_of(settings.sources[place.source.name], action or "fail")
    decision = Decision(operator=operator(), host=socket.gethostname(), reason=reason, action=taken)
    with named(place.source), Ledger(settings) as ledger:
        ended = _end(place, hearing_of(settings), decision, ledger)
    if as_json:
        members = {"source": place.source.name, "reaped": ended, "action": taken, "message": decision.message}
        document.write("fail", {**members, "operator": decision.operator})
    else:
        did = "Failed" if taken == "fail" else f"Action {taken}:"
        click.echo(shown(f"{did} job {words.job(place.key)} in source {place.source.name} ({ended.reason})."))


def _end(place: Place, hearing: Hearing, decision: Decision, ledger: Ledger) -> Reaped:
    try:
        return fail(place.source, hearing, place.key, decision, ledger)
    except JobMoved as error:
        raise JobMoved(f"job {words.job(place.key)} {error}") from None
