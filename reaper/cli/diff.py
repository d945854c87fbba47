"""`reaper diff`: which running jobs a new configuration would judge differently."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from reaper.cli import exit_codes, output
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import load_settings
from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.common.suggestions import did_you_mean
from reaper.common.terminal import shown, warn
from reaper.config import Settings, load
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import JobCounts
from reaper.operations.judgement_diff import MAX_COMPARED, ChangedJob, Judged, SourceDiff, diff_source
from reaper.operations.source_errors import named_errors
from reaper.operations.sources import SourceResult


@click.command("diff", short_help="Show which jobs a new configuration judges differently.")
@click.option("--config", "new_config", required=True, metavar="NEW", help="The new configuration file.")
@source_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="At most this many jobs of each source.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, new_config: str, source: str | None, limit: int, as_json: bool) -> int:
    """Show which running jobs a new configuration judges differently from the one in force, and why.

    Changes nothing: run it before a reload. The configuration in force is the one of every other command (`reaper
    --config PATH diff --config NEW` names it); variables hold for both. Sources that only one of them has are shown
    with their counts. `never`, `quiet` and `most` are compared, too, and what would hold a sweep of the new
    configuration now is shown. Exit status 3 when a job, one of these or a source differs, 0 when none does, and 78
    when one of the files is wrong.

    \b
    Example:
      reaper diff --config new.toml
    """
    present = load_settings(ctx)
    new = load({"config": new_config}, os.environ)
    for note in new.notes:
        warn(f"{new_config}: {note}")
    names = _names(present, new, source)
    results = [_compare(present, new, name, limit) for name in names]
    if as_json:
        output.write_document("diff", {"sources": [_document(result) for result in results]})
    else:
        for line in (line for result in results for line in _lines(result, limit)):
            click.echo(shown(line))
    differ = any(result.value.differs for result in results if result.value)
    codes = [exit_codes.of_result(result) for result in results]
    return exit_codes.worst([*codes, exit_codes.ATTENTION if differ else exit_codes.DONE])


def _names(present: Settings, new: Settings, source: str | None) -> list[str]:
    names = list(dict.fromkeys([*present.sources, *new.sources]))
    if source is None:
        return names
    if source not in names:
        raise click.UsageError(f"There is no source {source!r} in either configuration{did_you_mean(source, names)}")
    return [source]


def _compare(present: Settings, new: Settings, name: str, limit: int) -> SourceResult[SourceDiff]:
    try:
        with named_errors(name):
            return SourceResult(name, diff_source(present, new, name, limit))
    except ReaperError as error:
        warn(str(error))
        message = str(error).removeprefix(f"source {name}: ")
        return SourceResult(name, None, message, isinstance(error, DatabaseUnavailable))


# --- for programs ----------------------------------------------------------------------------------------------------


def _document(result: SourceResult[SourceDiff]) -> dict[str, object]:
    found = result.value
    return {
        "source": result.source,
        "error": result.error,
        "database_away": result.database_away,
        "differs": found.differs if found else None,
        "present": _census(found.present) if found else None,
        "new": _census(found.new) if found else None,
        "changed": dict(found.changed) if found else {},
        "jobs": [_job(job) for job in found.jobs] if found else [],
        "complete": found.complete if found else False,
        "note": found.note if found else None,
        "guards": {name: {"present": one, "new": other} for name, (one, other) in found.guards.items()}
        if found
        else {},
        "held": "; ".join(left.why for left in found.left) or None if found else None,
    }


def _census(counts: JobCounts | None) -> dict[str, object] | None:
    return None if counts is None else {**to_jsonable(counts), "spared": counts.spared}


def _job(job: ChangedJob) -> dict[str, object]:
    return {
        "job": messages.format_key(job.key),
        "kind": job.kind,
        "present": _judged(job.present),
        "new": _judged(job.new),
        "because": list(job.because),
    }


def _judged(judged: Judged) -> dict[str, object]:
    return {"verdict": judged.verdict, "ends": judged.ends, "action": judged.action, "why": judged.why}


# --- for people ------------------------------------------------------------------------------------------------------


def _lines(result: SourceResult[SourceDiff], limit: int) -> Iterator[str]:
    if (found := result.value) is None:
        return
    heading = f"Source {result.source}"
    if found.present is None or found.new is None:
        only, counts = ("the new", found.new) if found.present is None else ("the present", found.present)
        in_words = messages.describe_counts(counts or JobCounts(0, 0, 0, None))
        yield f"{heading}: only in {only} configuration: {in_words}."
    elif found.note is not None:
        yield f"{heading}: {found.note}."
        yield f"  present: {messages.describe_counts(found.present)}."
        yield f"  new: {messages.describe_counts(found.new)}."
    elif not found.changed:
        yield f"{heading}: no job is judged differently ({messages.describe_counts(found.new)})."
    else:
        yield f"{heading}: {sum(found.changed.values())} job(s) are judged differently."
        yield from (f"  {number} {step}" for step, number in found.changed.items())
        for job in found.jobs:
            yield f"  {messages.format_key(job.key)}{f' ({job.kind})' if job.kind else ''}: {'; '.join(job.because)}"
            yield f"    present: {job.present.verdict}: {job.present.why}"
            yield f"    new: {job.new.verdict}: {job.new.why}"
        if sum(found.changed.values()) > len(found.jobs):
            yield f"  The first {limit} are shown; --limit shows more."
    if not found.complete:
        yield f"  Only the first {MAX_COMPARED:,} jobs of each configuration were compared."
    for name, (present, new) in found.guards.items():
        yield f"  {name}: {present} -> {new}."
    for left in found.left:
        yield f"  A sweep of the new configuration would end no job now ({left.reason.value}): {left.why}."
