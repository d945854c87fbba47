"""`reaper runbook`: what to do for an alert or a symptom."""

from __future__ import annotations

import click

from reaper.cli import output
from reaper.cli.options import json_option
from reaper.common import runbook


@click.command("runbook", short_help="Show what to do for an alert or a symptom.")
@click.argument("words", metavar="[ALERT]", nargs=-1)
@json_option
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Show what to do for an alert or a symptom: what it means, how to find the cause, how to fix it.

    Without ALERT it lists the entries, symptoms first. Reads no configuration and asks no database.

    \b
    Example:
      reaper runbook ReaperBreakerOpen
    """
    if not words:
        names = list(runbook.entries())
        if as_json:
            output.write_document("runbook", {"entries": names})
            return
        for name in names:
            click.echo(name)
        return
    name = " ".join(words)
    try:
        text = runbook.entry(name)
    except runbook.NoSuchEntry as error:
        raise click.UsageError(str(error), ctx) from None
    if as_json:
        output.write_document("runbook", {"entry": text.partition("\n")[0].removeprefix("## "), "text": text})
        return
    click.echo(text, nl=False)
