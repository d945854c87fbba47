"""`reaper cleanup`: end what is older than some minutes and silent for as long, as noetl's own command says it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import click

from reaper import words
from reaper.breaker import Breaker
from reaper.cli import document
from reaper.cli.document import shown
from reaper.cli.interrupt import Interrupt
from reaper.cli.ledger import Ledger
from reaper.cli.options import json_option
from reaper.cli.sources import hearing_of, limited, made, named, settings_of, single
from reaper.cli.sweeping import code, orders_of, sweep_one
from reaper.cli.swept import doubted, locked, refused, unheard
from reaper.hearing import Hearing
from reaper.model import Key, Limit, Outcome, SweepReport
from reaper.source import Source

_RULE = "=" * 60
_LONGEST = 3650 * 24 * 60


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was found and done; of a dry run, what would be."""

    minutes: int
    dry_run: bool
    found: int
    ids: Sequence[int | str]
    notes: Sequence[str]

    @property
    def message(self) -> str:
        if not self.found:
            return f"No stuck executions found older than {self.minutes} minutes"
        did = "[DRY RUN] Would cancel" if self.dry_run else "Cancelled"
        return f"{did} {len(self.ids)} stuck executions older than {self.minutes} minutes"


@click.command("cleanup", short_help="Cancel executions that are older than some minutes, and silent.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option(
    "--older-than-minutes",
    type=click.IntRange(1, _LONGEST),
    default=5,
    show_default=True,
    metavar="N",
    help="Minimum age, and minimum silence, in minutes.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be cancelled.")
@click.option("--force", is_flag=True, help="Trust silence across a restart of the database, and pass the breaker.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, older_than_minutes: int, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Cancel executions that are older than some minutes, and silent.

    A sweep of one source, whose timeout and stall window are both these minutes, for every job. One that has shown a
    sign of life within them is spared. So is, without --force, one that was silent only while the database was away,
    and all of them when nearly everything fell silent at once; the output says so.

    \b
    Example:
      reaper cleanup --older-than-minutes 60 --dry-run
    """
    settings = settings_of(ctx)
    limit = Limit(older_than_minutes * 60.0, "--older-than-minutes")
    place = made(settings, limited(single(settings, source), limit, limit))
    orders = orders_of(settings, force=force, dry_run=dry_run)
    hearing = Hearing(0) if force else hearing_of(settings)
    with Interrupt(changes=not dry_run) as interrupt, Ledger(settings) as ledger:
        report, watched = sweep_one(place, hearing, orders, interrupt, ledger, named=sys.maxsize)
    keys: Iterable[Key] = [job.key for job in watched.named]
    found = report.census.stale if report.census else 0
    if dry_run and found:
        with named(place):
            keys = _stale(place, hearing)
    ids = sorted(map(_identifier, keys), key=lambda each: (isinstance(each, str), each))
    cleaned = Cleaned(
        older_than_minutes, dry_run, len(ids) if dry_run else found, ids, list(_notes(report, orders.breaker))
    )
    if as_json:
        document.write("cleanup", _members(cleaned, report))
    elif report.error is None or ids:
        for line in _lines(cleaned):
            click.echo(shown(line))
    return code(report)


def _stale(source: Source, hearing: Hearing) -> list[Key]:
    """All of them, where a report names the first."""
    with source.connect() as connection:
        moment = source.consult(source.meet(connection, hearing))
        with source.transaction(connection, read_only=True):
            return [candidate.key for candidate in source.survey.stream(connection, moment)]


def _identifier(key: Key) -> int | str:
    """A key as a number, when it is one."""
    name = words.job(key)
    return int(name) if name.isascii() and name.isdigit() and str(int(name)) == name else name


def _members(cleaned: Cleaned, report: SweepReport) -> dict[str, object]:
    return {
        "source": report.source,
        "cancelled_count": len(cleaned.ids),
        "execution_ids": cleaned.ids,
        "message": cleaned.message,
        "dry_run": cleaned.dry_run,
        "outcome": report.outcome,
        "notes": cleaned.notes,
        "error": report.error,
        "database_away": report.database_away,
    }


def _lines(cleaned: Cleaned) -> Iterator[str]:
    yield _RULE
    yield f"{'[DRY RUN] ' if cleaned.dry_run else ''}Cleanup Stuck Executions"
    yield _RULE
    yield f"Older than: {cleaned.minutes} minutes"
    yield f"Found: {cleaned.found} stuck execution(s)"
    yield cleaned.message
    if cleaned.ids:
        yield "Execution IDs:"
        yield from (f"- {each}" for each in cleaned.ids)
    yield from cleaned.notes
    if cleaned.dry_run and cleaned.ids:
        yield "Note: Run without --dry-run to actually cancel these executions"
    yield _RULE


def _notes(report: SweepReport, breaker: Breaker) -> Iterator[str]:
    """Why something was spared although it looks stuck."""
    if report.census is not None:
        if report.outcome is Outcome.HELD:
            yield f"Held by the breaker: {breaker.why(report.census)}. With --force they are cancelled all the same."
        elif report.dry_run and breaker.opens(report.census):
            yield f"The breaker would hold this: {breaker.why(report.census)}. With --force it does not."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest is still there."
    if report.lost:
        yield f"{report.lost} execution(s) moved meanwhile, and were left alone."
    yield from locked(report)
    yield from refused(report)
    yield from doubted(report)
    yield from unheard(report)
