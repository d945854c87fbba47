"""`reaper explain`: everything that is known of one job."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.console import Console

from reaper.cli import output
from reaper.cli.console import facts, make_console, put
from reaper.cli.job_argument import find
from reaper.cli.options import job_argument, json_option, source_option
from reaper.cli.sources import selected, settings_of
from reaper.common import messages
from reaper.common.durations import format_duration
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import shown
from reaper.model import Evidence, Verdict
from reaper.operations.explain import Explanation, explain
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source


@click.command("explain", short_help="Show everything that is known of one job.")
@job_argument
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, job: str, source: str | None, as_json: bool) -> None:
    """Show everything that is known of one job, running or not.

    Each sign of life, each threshold and where it came from, the verdict, and what earlier reaps wrote. A key of
    several columns is written with commas between them.

    \b
    Example:
      reaper explain 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11
    """
    settings = settings_of(ctx)
    place, told = find(
        selected(settings, source), job, lambda s, name: explain(s, new_downtime_tracker(settings), name), sure=False
    )
    if as_json:
        output.write("explain", _members(place, told))
    else:
        _show(make_console(), place, told)


def _members(place: Source, told: Explanation) -> dict[str, object]:
    return {
        "source": place.name,
        "job": {**to_jsonable(told.evidence), "why": messages.describe_verdict(told.evidence)},
        "holder": told.holder,
        "audits": told.audits,
    }


def _show(console: Console, place: Source, told: Explanation) -> None:
    evidence = told.evidence
    kind = f" ({evidence.kind})" if evidence.kind else ""
    console.print(
        shown(f"Job {messages.format_key(evidence.key)}{kind} in source {place.name}"), style="bold", soft_wrap=True
    )
    put(console, facts([*_standing(told), *_signs(evidence), *_thresholds(evidence), *_past(told)]))


def _standing(told: Explanation) -> Iterator[tuple[str, str]]:
    evidence = told.evidence
    yield "verdict", f"{evidence.verdict}: {messages.describe_verdict(evidence)}"
    if (outlook := messages.describe_outlook(evidence)) is not None:
        yield "outlook", outlook
    if told.holder is not None:
        held = "" if evidence.verdict is Verdict.ENDED else "; it is not ended while that lasts"
        yield "row held", f"by {messages.describe_holder(told.holder)}{held}"
    yield "status", evidence.status or "none"
    yield "started", _context(evidence.started, evidence.started_from, evidence.age_seconds)


def _context(at: str | None, where: str | None, ago: float | None) -> str:
    if at is None:
        return "unknown"
    return f"{at}{f' ({where})' if where else ''}{f', {format_duration(ago)} ago' if ago is not None else ''}"


def _signs(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for witness, at in evidence.signs.items():
        yield f"sign of life: {witness}", at or "none"
    yield "last sign of life", _context(evidence.last_sign, evidence.witness, evidence.silence_seconds)
    if evidence.unknown is not None:
        yield "unknown", evidence.unknown


def _thresholds(evidence: Evidence) -> Iterator[tuple[str, str]]:
    yield "timeout", f"{format_duration(evidence.timeout_seconds)}, from {evidence.timeout_from}"
    yield "stall window", f"{format_duration(evidence.stall_seconds)}, from {evidence.stall_from}"
    if evidence.verdict is Verdict.ENDED:
        return
    if evidence.audible_since is not None:
        yield "a stall window back", f"{evidence.audible_since}: what was last heard before it is silent"
    elif evidence.deaf_until is not None:
        yield "a stall window back", "not reached yet: nothing could be heard for so long"
    if evidence.deaf_until is not None:
        yield "silence counts from", f"{evidence.deaf_until}: the database was away before, or nobody knows"


def _past(told: Explanation) -> Iterator[tuple[str, str]]:
    for written in told.audits:
        yield "ended", messages.describe_audit(written)
