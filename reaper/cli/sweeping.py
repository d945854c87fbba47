"""Sweeps by hand: one source after the other, with a bar, until told to stop."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

from reaper.breaker import Breaker
from reaper.cli import document, exits
from reaper.cli.interrupt import Interrupt
from reaper.cli.ledger import Ledger
from reaper.cli.progress import Watched, watching
from reaper.cli.sources import hearing_of
from reaper.hearing import Hearing
from reaper.model import Outcome, SweepReport
from reaper.orders import SHOWN, Memory, Orders
from reaper.plain import plain
from reaper.settings import Settings
from reaper.source import Source
from reaper.sweep import sweep

_CODES = {Outcome.DONE: exits.DONE, Outcome.STOPPED: exits.INTERRUPTED}


def orders_of(settings: Settings, *, force: bool, dry_run: bool) -> Orders:
    return Orders(
        host=socket.gethostname(),
        batch_size=settings.batch_size,
        breaker=Breaker(settings.breaker_min, settings.breaker_share),
        force=force,
        dry_run=dry_run,
    )


def sweep_each(
    settings: Settings, sources: Sequence[Source], orders: Orders, interrupt: Interrupt
) -> list[tuple[SweepReport, Watched]]:
    """One source after the other, until told to stop."""
    done: list[tuple[SweepReport, Watched]] = []
    with Ledger(settings) as ledger:
        for source in sources:
            done.append(sweep_one(source, hearing_of(settings), orders, interrupt, ledger))
            if interrupt.asked():
                break
    return done


def sweep_one(
    source: Source, hearing: Hearing, orders: Orders, interrupt: Interrupt, ledger: Ledger, named: int = SHOWN
) -> tuple[SweepReport, Watched]:
    """A sweep, and the first `named` jobs that it ended. What went wrong is told on stderr."""
    interrupt.surveying()
    with watching(f"Sweeping {source.name}", interrupt, named, ledger) as watched:
        report = sweep(source, hearing, Memory(), replace(orders, stopping=interrupt.asked), None, watched)
    if report.error is not None:
        hint = "" if report.database_away else "; `reaper check` examines the database"
        document.say(f"reaper: source {source.name}: {report.error}{hint}")
    return report, watched


def member(report: SweepReport, watched: Watched) -> dict[str, object]:
    """A report in a document."""
    found: dict[str, object] = plain(report)
    if report.census is not None:
        found["census"] = {**plain(report.census), "spared": report.census.spared}
    return {**found, "reaped_jobs": plain(watched.named)}


def code(report: SweepReport) -> int:
    """The exit status for a sweep."""
    if report.database_away:
        return exits.AWAY
    return exits.FAILED if report.failures else _CODES.get(report.outcome, exits.FAILED)
