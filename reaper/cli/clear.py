"""`reaper clear`: show stale jobs, ask, and end them; and revoke orphaned Celery tasks with --revoke-orphans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import is_interactive, not_asked, refuse_usage, require_action
from reaper.cli.options import action_option, age_option, guard_options, json_option, source_option
from reaper.cli.progress import ProgressListener
from reaper.cli.sources import load_settings, require_source
from reaper.cli.sweep import exit_code_of, halt_lines, print_report, report_document, sweep_each
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import Outcome, SweepReport, Threshold
from reaper.operations.guards import GuardPasses, HaltGuard, halt_guard, halt_members, require_none_observed
from reaper.operations.orphaned_tasks import Orphan, describe_orphan, find_orphans, one_per_broker, revoke_orphans
from reaper.operations.sources import create_one_off_sources, in_order_of_ending, waits_for
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.sweep.breaker import Breaker
from reaper.sweep.summary import sweep_totals

_VULS_HOURS = 2.0


@click.command("clear", short_help="Show stale jobs, ask, and end them.")
@source_option
@age_option(
    "Timeout of every job, and upper limit of every stall window, such as 4h. A longer limit of its kind or its row "
    "holds. [default: as configured, and 2h for the sources of vuls]"
)
@click.option(
    "--max-age-hours",
    type=click.FloatRange(0, 87600, min_open=True),
    metavar="N",
    help="The same as --older-than, in hours.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="The same as --yes.")
@guard_options
@click.option("--revoke-orphans", is_flag=True, help="Revoke tasks that Celery executes and that belong to no job.")
@action_option("How the jobs are ended: an action of the profile. [default: as configured]")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    older_than: float | None,
    max_age_hours: float | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    while_halted: bool,
    release: int | None,
    trust_silence: bool,
    while_observed: bool,
    revoke_orphans: bool,
    action: str | None,
    as_json: bool,
) -> int:
    """Show stale jobs, ask, and end them.

    Without a terminal it needs --yes, which passes the question and nothing else. The breaker holds it as it holds a
    sweep; so does a halt. A yes to the
    question lets the breaker pass as many jobs as the question named, and no more. Orphaned tasks (Celery executes
    them, and they belong to no job) are listed, and revoked only with --revoke-orphans.

    A worker that is shutting down does not answer while it finishes its task: wait until it has ended.

    \b
    Example:
      reaper clear --older-than 4h --dry-run
    """
    if max_age_hours is not None and math.isnan(max_age_hours):
        raise click.BadParameter("expected a number of hours", param_hint="--max-age-hours")
    if max_age_hours is not None and older_than is not None:
        return refuse_usage(ctx, "--older-than and --max-age-hours mean the same: give one of them")
    limit = None if older_than is None else Threshold(older_than, "--older-than")
    if max_age_hours is not None:
        limit = Threshold(max_age_hours * 3600, "--max-age-hours")
    yes = yes or force
    if not (dry_run or yes or is_interactive()):
        return refuse_usage(ctx, not_asked("clear"))
    passes = GuardPasses(while_halted, release or 0, trust_silence, while_observed)
    run = _make_run(ctx, source, limit, action, passes)
    if not dry_run:
        run.halt.require_none()
        require_none_observed(run.sources)
    result = preview = None if yes and not dry_run else run.preview()
    if preview and not (dry_run and as_json):
        _print_result(run, preview, stderr=as_json)
    confirmed = not dry_run and (preview is None or _confirmed(run, preview, revoking=revoke_orphans))
    if confirmed or result is None:
        result = run.clear(preview, revoking=revoke_orphans)
        if not as_json:
            _print_result(run, result)
    if as_json:
        output.write_document("clear", _document(result, run.halt, dry_run=dry_run, cleared=confirmed))
    return exit_codes.worst([result.status, result.orphans.exit_code])


def _make_run(
    ctx: click.Context, source: str | None, limit: Threshold | None, action: str | None, passes: GuardPasses
) -> ClearRun:
    settings = passes.applied_to(load_settings(ctx))
    names = list(settings.sources) if source is None else [require_source(settings, source)]
    selected = [settings.sources[name] for name in names]
    selected = [_with_max_age(one, limit) for one in selected]
    if action is not None:
        selected = [replace(one, action=require_action(one, action)) for one in selected]
    sources = in_order_of_ending(create_one_off_sources(settings, selected))
    halt = halt_guard(settings, while_halted=passes.while_halted)
    asked = {one.name: one for one in selected if limit is not None or one.profile.is_vuls}
    return ClearRun(settings, sources, asked, Breaker.from_settings(settings), passes, halt)


def _with_max_age(source: SourceSettings, limit: Threshold | None) -> SourceSettings:
    """The source with this timeout; without one, the sources of vuls have that of vuls' own command."""
    if limit is not None:
        return with_max_age(source, limit)
    if source.profile.is_vuls:
        return with_max_age(source, Threshold(_VULS_HOURS * 3600, "reaper clear"))
    return source


def _confirmed(run: ClearRun, preview: ClearReport, *, revoking: bool) -> bool:
    more = sum(run.following(preview).values())
    waiting = f" and up to {more} that only wait for them" if more else ""
    questions = [f"end {preview.to_end} stale job(s){waiting}"] if preview.to_end else []
    if revoking and preview.orphans.count:
        questions.append(f"revoke {preview.orphans.count} orphaned task(s)")
    return bool(questions) and click.confirm(f"{' and '.join(questions).capitalize()}?", err=True)


def _print_result(run: ClearRun, result: ClearReport, *, stderr: bool = False) -> None:
    console = make_console(stderr=stderr)
    for report, watched in result.swept:
        print_report(console, report, watched, run.breaker, with_heading=len(result.swept) > 1)
        for text in _guard_lines(run, report):
            console.print(shown(text), soft_wrap=True)
    for text in _orphan_lines(result.orphans):
        console.print(shown(text), soft_wrap=True)


def _guard_lines(run: ClearRun, report: SweepReport) -> Iterator[str]:
    """What holds this source, and what passes."""
    if report.outcome is Outcome.HELD and report.census is not None:
        yield f"If they are dead, `reaper clear --release {report.census.stale}` ends as many, or fewer."
    yield from halt_lines(run.halt, report.outcome)


def _orphan_lines(orphans: OrphanResult) -> Iterator[str]:
    remaining = [task for tasks in orphans.by_source.values() for task in tasks if task not in orphans.revoked]
    yield from (f"{describe_orphan(task)}." for task in remaining)
    yield from (f"Revoked: task {task.id} ({task.task or 'unknown'}) on {task.worker}." for task in orphans.revoked)
    if remaining and not orphans.revoked:
        yield f"{len(remaining)} orphaned task(s); --revoke-orphans revokes them."


def _document(result: ClearReport, halt: HaltGuard, *, dry_run: bool, cleared: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "cleared": cleared,
        "sources": [report_document(report, watched) for report, watched in result.swept],
        "halted": halt_members(halt.held_by),
        "orphans": [task for tasks in result.orphans.by_source.values() for task in tasks],
        "revoked": result.orphans.revoked,
        "errors": [str(error) for error in result.orphans.errors],
    }


@dataclass(slots=True)
class OrphanResult:
    """Orphaned tasks by source, those that were revoked, and errors."""

    by_source: dict[str, list[Orphan]] = field(default_factory=dict)
    revoked: list[Orphan] = field(default_factory=list)
    errors: list[ReaperError] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.by_source.values()))

    @property
    def exit_code(self) -> int:
        away = any(isinstance(error, DatabaseUnavailable) for error in self.errors)
        return exit_codes.AWAY if away else exit_codes.FAILED if self.errors else exit_codes.DONE


@dataclass(frozen=True, slots=True)
class ClearReport:
    """Sweeps and orphaned tasks of a preview or of the run itself; `status` is the exit status of the sweeps."""

    swept: Sequence[tuple[SweepReport, ProgressListener]]
    orphans: OrphanResult
    status: int

    @property
    def to_end(self) -> int:
        return sweep_totals(report for report, _ in self.swept).to_end

    @property
    def stale_by_source(self) -> dict[str, int]:
        return {report.source: sweep_totals([report]).stale for report, _ in self.swept}


@dataclass(frozen=True, slots=True)
class ClearRun:
    """The sources to clear, and the settings of those for which an age was asked for."""

    settings: Settings
    sources: Sequence[Source]
    asked: Mapping[str, SourceSettings]
    breaker: Breaker
    passes: GuardPasses
    halt: HaltGuard

    def preview(self) -> ClearReport:
        """A dry run, and a search for orphans. Changes nothing."""
        swept, status = self._sweep(dry_run=True)
        return ClearReport(swept, self._look_for_orphans(), status)

    def clear(self, preview: ClearReport | None, *, revoking: bool) -> ClearReport:
        """End stale jobs. After a preview, the breaker passes as many of each source as the question named."""
        swept, status = self._sweep(dry_run=False, asked=preview)
        orphans = preview.orphans if preview else self._look_for_orphans()
        if revoking:
            self._revoke(orphans)
        return ClearReport(swept, orphans, status)

    def _sweep(
        self, *, dry_run: bool, asked: ClearReport | None = None
    ) -> tuple[list[tuple[SweepReport, ProgressListener]], int]:
        interrupt = InterruptHandler(changes=not dry_run)
        options = self.passes.sweep_options(self.settings, self.halt, dry_run=dry_run)
        with interrupt:
            swept = sweep_each(
                self.settings,
                self.sources,
                options,
                interrupt,
                asked=self.asked,
                passes=self.passes,
                released=self._released(asked) if asked else {},
                what="clear",
            )
        interrupted = [exit_codes.INTERRUPTED] if interrupt.requested() else []
        return swept, exit_codes.worst([*interrupted, *(exit_code_of(report) for report, _ in swept)])

    def following(self, preview: ClearReport) -> dict[str, int]:
        """By source: how many of its jobs may become stale because those of other sources are ended."""
        stale = preview.stale_by_source
        awaited = {source.name: waits_for(source, self.sources) for source in self.sources}
        return {name: sum(stale.get(other, 0) for other in others) for name, others in awaited.items()}

    def _released(self, asked: ClearReport) -> dict[str, int]:
        """How many jobs of each source the question named."""
        following = self.following(asked)
        return {name: stale + following.get(name, 0) for name, stale in asked.stale_by_source.items()}

    def _look_for_orphans(self) -> OrphanResult:
        orphans = OrphanResult()
        for source in one_per_broker(self.settings, self.sources):
            with _collecting_errors(orphans):
                orphans.by_source[source.name] = find_orphans(self.settings, source)
        return orphans

    def _revoke(self, orphans: OrphanResult) -> None:
        for source in self.sources:
            if orphans_of_source := orphans.by_source.get(source.name):
                with _collecting_errors(orphans):
                    orphans.revoked += revoke_orphans(self.settings, source, orphans_of_source)


@contextmanager
def _collecting_errors(orphans: OrphanResult) -> Iterator[None]:
    """Report an error of one broker, and go on with the others."""
    try:
        yield
    except ReaperError as error:
        orphans.errors.append(error)
        say(f"reaper: {error}")
