"""`reaper clear`: show what is stuck, ask, and end it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import click

from reaper.breaker import Breaker
from reaper.cli import document, exits
from reaper.cli.clearing import Cleared, Clearing, Orphans
from reaper.cli.options import action_option, json_option, source_option
from reaper.cli.orphaned import line
from reaper.cli.person import action_of, present, refused
from reaper.cli.screen import make_console
from reaper.cli.sources import known, made, settings_of
from reaper.cli.sweeping import member
from reaper.cli.swept import show
from reaper.making import aged
from reaper.model import Limit

_NOBODY = "nobody is here to be asked: say --force to clear without asking, or --dry-run to look"


@click.command("clear", short_help="Clear stuck jobs, and orphaned tasks when asked to.")
@source_option
@click.option(
    "--max-age-hours",
    type=click.FloatRange(0, 87600, min_open=True),
    metavar="N",
    help="This timeout for every job, in hours; none may be silent for longer. [default: as configured]",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@click.option("--force", is_flag=True, help="Do not ask.")
@click.option("--revoke-orphans", is_flag=True, help="End tasks that Celery executes and that no job knows.")
@action_option("What becomes of the jobs: one of the profile's actions. [default: as configured]")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    max_age_hours: float | None,
    dry_run: bool,
    force: bool,
    revoke_orphans: bool,
    action: str | None,
    as_json: bool,
) -> int:
    """Clear stuck jobs: a sweep that shows first what it would end, and asks.

    Where nobody can be asked it needs --force, which does not pass the breaker. On a terminal whoever answers has seen
    what the breaker says. Tasks that Celery executes for no job are named, and ended only with --revoke-orphans.

    A worker that is being stopped, and still finishes a task, does not answer any more: let it end before.

    \b
    Example:
      reaper clear --max-age-hours 4 --dry-run
    """
    if max_age_hours is not None and math.isnan(max_age_hours):
        raise click.BadParameter("expected a number of hours", param_hint="--max-age-hours")
    if not (dry_run or force or present()):
        return refused(ctx, _NOBODY)
    clearing = _clearing(ctx, source, max_age_hours, action)
    done = seen = None if force and not dry_run else clearing.look()
    if seen and not (dry_run and as_json):
        _show(clearing, seen, stderr=as_json)
    agreed = not dry_run and (seen is None or _agreed(seen, revoking=revoke_orphans))
    if agreed or done is None:
        done = clearing.clear(seen, revoking=revoke_orphans)
        if not as_json:
            _show(clearing, done)
    if as_json:
        document.write("clear", _members(done, dry_run=dry_run, cleared=agreed))
    return exits.worst([done.status, done.orphans.code])


def _clearing(ctx: click.Context, source: str | None, hours: float | None, action: str | None) -> Clearing:
    settings = settings_of(ctx)
    wanted = list(settings.sources.values()) if source is None else [settings.sources[known(settings, source)]]
    if hours is not None:
        wanted = [aged(found, Limit(hours * 3600, "--max-age-hours")) for found in wanted]
    if action is not None:
        wanted = [replace(found, action=action_of(found, action)) for found in wanted]
    breaker = Breaker(settings.breaker_min, settings.breaker_share)
    return Clearing(settings, [made(settings, found) for found in wanted], breaker)


def _agreed(seen: Cleared, *, revoking: bool) -> bool:
    wanted = [f"end {seen.stale} stale job(s)"] if seen.stale else []
    if revoking and seen.orphans.count:
        wanted.append(f"revoke {seen.orphans.count} orphaned task(s)")
    return bool(wanted) and click.confirm(f"{' and '.join(wanted).capitalize()}?", err=True)


def _show(clearing: Clearing, done: Cleared, *, stderr: bool = False) -> None:
    console = make_console(stderr=stderr)
    for report, watched in done.swept:
        show(console, report, watched, clearing.breaker, named=len(done.swept) > 1)
    for told in _lines(done.orphans):
        console.print(document.shown(told), soft_wrap=True)


def _lines(orphans: Orphans) -> Iterator[str]:
    left = [orphan for found in orphans.found.values() for orphan in found if orphan not in orphans.revoked]
    yield from (f"{line(orphan)}." for orphan in left)
    yield from (f"Revoked: task {told.id} ({told.task or 'unknown'}) on {told.worker}." for told in orphans.revoked)
    if left and not orphans.revoked:
        yield f"{len(left)} orphaned task(s); --revoke-orphans ends them."


def _members(done: Cleared, *, dry_run: bool, cleared: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "cleared": cleared,
        "sources": [member(report, watched) for report, watched in done.swept],
        "orphans": [orphan for found in done.orphans.found.values() for orphan in found],
        "revoked": done.orphans.revoked,
        "errors": [str(error) for error in done.orphans.errors],
    }
