"""`reaper explain`: the evidence and the verdict for one job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console

from reaper.cli import output
from reaper.cli.console import make_console, print_table, two_columns
from reaper.cli.job_command import JobCommand
from reaper.cli.options import job_argument, json_option, source_option
from reaper.cli.sources import find_job, load_settings, select_sources
from reaper.common import messages
from reaper.common.durations import format_duration
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import shown
from reaper.model import Evidence, Verdict
from reaper.operations.explain import Explanation, explain
from reaper.operations.reasons_not_ended import command_guards
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source
from reaper.source.kept_jobs import kept_by_hold
from reaper.sweep.reasons_not_ended import UNGUARDED, Left


@click.command("explain", cls=JobCommand, short_help="Show why one job is stale or not.")
@job_argument
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, job: str, source: str | None, as_json: bool) -> None:
    """Show why one job is stale or not, whether it runs or has ended.

    Shows each sign of life, each threshold with its origin, the verdict, why a silent job is left, and the audit events
    of earlier reaps. Write
    a key of several columns with commas between the values, and double quotes around a value that has a comma. A key
    that begins with - comes last, after --.

    \b
    Example:
      reaper explain 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11
    """
    settings = load_settings(ctx)
    downtime = new_downtime_tracker(settings)
    place, explanation = find_job(
        select_sources(settings, source),
        job,
        lambda opened, name: explain(opened, downtime.copy(), name, counts=True),
        all_sources_must_answer=False,
    )
    is_stale = explanation.evidence.verdict is Verdict.STALE
    guards = command_guards(settings, place, explanation.census) if is_stale else UNGUARDED
    left = guards.of_job(explanation.evidence, explanation.holder)
    if as_json:
        output.write_document("explain", _document(place, explanation, left))
    else:
        _print_explanation(make_console(), place, explanation, left)


def _document(source: Source, explanation: Explanation, left: Sequence[Left]) -> dict[str, object]:
    return {
        "source": source.name,
        "job": {**to_jsonable(explanation.evidence), "why": messages.describe_verdict(explanation.evidence)},
        "holder": explanation.holder,
        "left": to_jsonable(left),
        "audits": explanation.audits,
    }


def _print_explanation(console: Console, source: Source, explanation: Explanation, left: Sequence[Left]) -> None:
    evidence = explanation.evidence
    kind = f" ({evidence.kind})" if evidence.kind else ""
    console.print(
        shown(f"Job {messages.format_key(evidence.key)}{kind} in source {source.name}"),
        style="bold",
        soft_wrap=True,
    )
    print_table(
        console,
        two_columns(
            [
                *_status_rows(explanation, left),
                *_sign_rows(evidence),
                *_threshold_rows(evidence),
                *_audit_rows(explanation),
            ]
        ),
    )


def _status_rows(explanation: Explanation, left: Sequence[Left]) -> Iterator[tuple[str, str]]:
    evidence = explanation.evidence
    yield "verdict", f"{evidence.verdict}: {messages.describe_verdict(evidence)}"
    if (outlook := messages.describe_outlook(evidence)) is not None:
        yield "outlook", outlook
    for each in left:
        yield f"left ({each.reason})", each.why
    if explanation.hold is not None and evidence.verdict is not Verdict.STALE:
        yield "hold", kept_by_hold(explanation.hold).why
    if explanation.holder is not None and evidence.verdict is not Verdict.STALE:
        yield "locked", messages.describe_lock(explanation.holder)
    yield "status", evidence.status or "none"
    yield "started", _moment_text(evidence.started, evidence.started_from, evidence.age_seconds, evidence.unknown)


def _moment_text(moment: str | None, origin: str | None, seconds_ago: float | None, unknown: str | None) -> str:
    if moment is None:
        return "unknown"
    if seconds_ago is None and unknown is not None:
        return f"unknown ({f'{origin} ' if origin else ''}is read as {moment})"
    where = f" ({origin})" if origin else ""
    return f"{moment}{where}{'' if seconds_ago is None else f', {messages.describe_distance(seconds_ago)}'}"


def _sign_rows(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for witness, at in evidence.signs.items():
        yield f"sign of life: {witness}", at or messages.describe_missing_sign(evidence)
    if evidence.worker is not None:
        yield "worker", evidence.worker
    sign = evidence.last_sign, evidence.witness, evidence.silence_seconds, evidence.unknown
    yield "last sign of life", _moment_text(*sign)
    if evidence.unknown is not None:
        yield "unknown", evidence.unknown


def _threshold_rows(evidence: Evidence) -> Iterator[tuple[str, str]]:
    yield "timeout", f"{format_duration(evidence.timeout_seconds)}, from {evidence.timeout_from}"
    yield "stall window", f"{format_duration(evidence.stall_seconds)}, from {evidence.stall_from}"
    if evidence.verdict is Verdict.ENDED:
        return
    if evidence.audible_since is not None:
        yield (
            "silence cutoff",
            f"{evidence.audible_since}: a job whose last sign of life is older is silent",
        )
    elif evidence.deaf_until is not None:
        yield "silence cutoff", "none yet: the database has not been reachable for a whole stall window"
    if evidence.deaf_until is not None:
        yield "silence counts from", f"{evidence.deaf_until}: before that the database was away, or may have been"


def _audit_rows(explanation: Explanation) -> Iterator[tuple[str, str]]:
    for audit in explanation.audits:
        yield "ended", messages.describe_audit(audit)
