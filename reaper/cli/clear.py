"""`reaper clear`: show what is stuck, ask, and end it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console
from reaper.cli.interrupt import Interrupt
from reaper.cli.operator import action_of, is_interactive, usage_error
from reaper.cli.options import action_option, json_option, source_option
from reaper.cli.progress import ProgressListener
from reaper.cli.sources import require_known, settings_of
from reaper.cli.sweep import code, member, show, sweep_each
from reaper.common.terminal import say, shown
from reaper.config import Settings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import SweepReport, Threshold
from reaper.operations.orphaned_tasks import Orphan, describe_orphan, find_orphans, one_per_broker, revoke_orphans
from reaper.operations.sources import create_one_off_source
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.summary import sweep_totals

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
    if not (dry_run or force or is_interactive()):
        return usage_error(ctx, _NOBODY)
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
        output.write("clear", _members(done, dry_run=dry_run, cleared=agreed))
    return exit_codes.worst([done.status, done.orphans.code])


def _clearing(ctx: click.Context, source: str | None, hours: float | None, action: str | None) -> ClearRun:
    settings = settings_of(ctx)
    wanted = list(settings.sources.values()) if source is None else [settings.sources[require_known(settings, source)]]
    if hours is not None:
        wanted = [with_max_age(found, Threshold(hours * 3600, "--max-age-hours")) for found in wanted]
    if action is not None:
        wanted = [replace(found, action=action_of(found, action)) for found in wanted]
    sources = [create_one_off_source(settings, found) for found in wanted]
    return ClearRun(settings, sources, Breaker.from_settings(settings))


def _agreed(seen: ClearResult, *, revoking: bool) -> bool:
    wanted = [f"end {seen.stale} stale job(s)"] if seen.stale else []
    if revoking and seen.orphans.count:
        wanted.append(f"revoke {seen.orphans.count} orphaned task(s)")
    return bool(wanted) and click.confirm(f"{' and '.join(wanted).capitalize()}?", err=True)


def _show(clearing: ClearRun, done: ClearResult, *, stderr: bool = False) -> None:
    console = make_console(stderr=stderr)
    for report, watched in done.swept:
        show(console, report, watched, clearing.breaker, named=len(done.swept) > 1)
    for told in _lines(done.orphans):
        console.print(shown(told), soft_wrap=True)


def _lines(orphans: Orphans) -> Iterator[str]:
    left = [orphan for found in orphans.found.values() for orphan in found if orphan not in orphans.revoked]
    yield from (f"{describe_orphan(orphan)}." for orphan in left)
    yield from (f"Revoked: task {told.id} ({told.task or 'unknown'}) on {told.worker}." for told in orphans.revoked)
    if left and not orphans.revoked:
        yield f"{len(left)} orphaned task(s); --revoke-orphans ends them."


def _members(done: ClearResult, *, dry_run: bool, cleared: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "cleared": cleared,
        "sources": [member(report, watched) for report, watched in done.swept],
        "orphans": [orphan for found in done.orphans.found.values() for orphan in found],
        "revoked": done.orphans.revoked,
        "errors": [str(error) for error in done.orphans.errors],
    }


@dataclass(slots=True)
class Orphans:
    """What was found of them, by source, what was revoked, and what stood in the way."""

    found: dict[str, list[Orphan]] = field(default_factory=dict)
    revoked: list[Orphan] = field(default_factory=list)
    errors: list[ReaperError] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.found.values()))

    @property
    def code(self) -> int:
        away = any(isinstance(error, DatabaseUnavailable) for error in self.errors)
        return exit_codes.AWAY if away else exit_codes.FAILED if self.errors else exit_codes.DONE


@dataclass(frozen=True, slots=True)
class ClearResult:
    """What was done, or would be, and the exit status."""

    swept: Sequence[tuple[SweepReport, ProgressListener]]
    orphans: Orphans
    status: int

    @property
    def stale(self) -> int:
        return sweep_totals(report for report, _ in self.swept).stale


@dataclass(frozen=True, slots=True)
class ClearRun:
    """What is to be cleared."""

    settings: Settings
    sources: Sequence[Source]
    breaker: Breaker

    def look(self) -> ClearResult:
        """Changes nothing."""
        swept, status = self._sweep(dry_run=True)
        return ClearResult(swept, self._look_for_orphans(), status)

    def clear(self, seen: ClearResult | None, *, revoking: bool) -> ClearResult:
        """End what is stale; whoever has seen it all has seen what the breaker says, too."""
        swept, status = self._sweep(dry_run=False, force=seen is not None)
        orphans = seen.orphans if seen else self._look_for_orphans()
        if revoking:
            self._revoke(orphans)
        return ClearResult(swept, orphans, status)

    def _sweep(self, *, dry_run: bool, force: bool = False) -> tuple[list[tuple[SweepReport, ProgressListener]], int]:
        interrupt = Interrupt(changes=not dry_run)
        with interrupt:
            options = SweepOptions.from_settings(self.settings, force=force, dry_run=dry_run)
            swept = sweep_each(self.settings, self.sources, options, interrupt)
        told = [exit_codes.INTERRUPTED] if interrupt.asked() else []
        return swept, exit_codes.worst([*told, *(code(report) for report, _ in swept)])

    def _look_for_orphans(self) -> Orphans:
        orphans = Orphans()
        for source in one_per_broker(self.settings, self.sources):
            with _told(orphans):
                orphans.found[source.name] = find_orphans(self.settings, source)
        return orphans

    def _revoke(self, orphans: Orphans) -> None:
        for source in self.sources:
            if found := orphans.found.get(source.name):
                with _told(orphans):
                    orphans.revoked += revoke_orphans(self.settings, source, found)


@contextmanager
def _told(orphans: Orphans) -> Iterator[None]:
    """Trouble with one broker is told, and kept from the others."""
    try:
        yield
    except ReaperError as error:
        orphans.errors.append(error)
        say(f"reaper: {error}")
