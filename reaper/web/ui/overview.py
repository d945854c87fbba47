"""Everything that the first page shows, as values: no HTML, and nothing that a template would have to work out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from reaper import __version__
from reaper.common import messages
from reaper.common.suggestions import did_you_mean
from reaper.memory import HaltRecord
from reaper.model import Evidence, JobCounts
from reaper.operations.report import Report
from reaper.web.service import AdminService
from reaper.web.ui import job_list as listings
from reaper.web.ui.formatting import Text, duration, link, text, visible
from reaper.web.ui.headline import Cell, Headline, headline, strip
from reaper.web.ui.history_rows import (
    ChangeRow,
    EndedRow,
    LateRow,
    SweptRow,
    change_row,
    ended_row,
    late_row,
    swept_row,
)
from reaper.web.ui.job_list import CHOICES, Filter, Found, Listing
from reaper.web.ui.outlook import NextStep, Outlook
from reaper.web.ui.source_rows import SourceRow, source_row
from reaper.web.ui.sweep_chart import Chart, chart, filled

_LATE_COUNTED = 100  # as many as the history keeps
_REAPED_SHOWN, _SWEEPS_SHOWN, _SWEEPS_DRAWN, _OTHERS_SHOWN, _KINDS_SHOWN = 12, 30, 2000, 10, 12


@dataclass(frozen=True, slots=True)
class Gauge:
    """A duration against its limit. `filled` is of a hundred; the limit is at fifty."""

    name: str
    value: str
    limit: str
    limit_name: str
    filled: float
    over: bool

    @property
    def spoken(self) -> str:
        return f"{self.name} {self.value}, {self.limit_name} {self.limit}"


@dataclass(frozen=True, slots=True)
class JobRow:
    """One running job. `started` is what whoever decides about it has seen."""

    anchor: str
    source: str
    job: Text
    link: str
    kind: Text | None
    verdict: str
    age: Gauge
    silence: Gauge
    why: str
    next: NextStep
    started: str | None
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class KindRow:
    source: str
    kind: Text | None
    running: int
    share: float
    link: str | None


@dataclass(frozen=True, slots=True)
class Policy:
    """One setting in force and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class OverviewPage:
    version: str
    host: str
    state: str
    halted: HaltRecord | None
    headline: Headline
    strip: Sequence[Cell]
    totals: JobCounts | None
    sources: Sequence[SourceRow]
    filter: Filter
    choices: Mapping[str, str]
    notes: Sequence[str]
    jobs: Sequence[JobRow]
    pages: tuple[str | None, str | None]
    too_far: bool
    unread: Sequence[str]
    kinds: Sequence[KindRow]
    more_kinds: int
    ended: Sequence[EndedRow]
    late: Sequence[LateRow]
    chart: Chart
    sweeps: Sequence[SweptRow]
    policy: Sequence[Policy]
    thresholds: Sequence[Policy]
    changes: Sequence[ChangeRow]


def make_board(service: AdminService, wanted: Filter) -> OverviewPage:
    """Reads the sources that answer. Raises nothing that a database may say."""
    names = [name for name in service.sources if wanted.source in (None, name)]
    known = {name: service.standing(name) for name in service.sources}
    away = {name for name, standing in known.items() if standing.report and standing.report.database_away}
    # What is known to be away is asked again by its next sweep: nobody here has to wait for it, again and again.
    found = listings.listing(service, wanted, [name for name in names if name not in away])
    errors = dict(found.errors)
    readable = [name for name in names if name not in away and name not in errors]
    counted = listings.kinds(service, readable, errors.__setitem__)
    prospects = {name: prospect(service, name, found.reports.get(name)) for name in known}
    holders = listings.held(found.jobs)
    prospects = {name: replace(each, holders=holders.get(name, {})) for name, each in prospects.items()}
    rows = [source_row(each, errors.get(name)) for name, each in prospects.items()]
    state, halted = service.supervisor.state, service.supervisor.halt_switch.current
    late, sweeps = service.history.late(_LATE_COUNTED), service.history.sweeps(None, _SWEEPS_DRAWN)
    policy = [Policy(visible(name), visible(value), visible(origin)) for name, value, origin in
              service.settings.described()]  # fmt: skip
    return OverviewPage(
        version=__version__,
        host=visible(service.host),
        state=str(state) if state else "NOT SCHEDULED",
        halted=halted,
        headline=headline(rows, list(prospects.values()), halted, state),
        strip=strip(rows, state, len(late), more=len(late) == _LATE_COUNTED),
        totals=_totals(rows),
        sources=rows,
        filter=wanted,
        choices=CHOICES,
        notes=_notes(service, wanted),
        jobs=[job_row(each, prospects[each.source], service) for each in found.jobs],
        pages=_pages(wanted, found),
        too_far=found.too_far,
        unread=sorted({name for name in names if name in away or name in errors}),
        kinds=[_kind_row(row, counted, wanted) for row in counted[:_KINDS_SHOWN]],
        more_kinds=max(0, len(counted) - _KINDS_SHOWN),
        ended=[ended_row(each, late) for each in service.history.endings(_REAPED_SHOWN)],
        late=[late_row(each) for each in late[:_OTHERS_SHOWN]],
        chart=chart(service.sources, sweeps),
        sweeps=[swept_row(each) for each in sweeps[:_SWEEPS_SHOWN]],
        policy=policy,
        thresholds=[row for row in policy if row.name.startswith("sources.") and _decides(row.name)],
        changes=[change_row(each) for each in service.history.changes(_OTHERS_SHOWN)],
    )


def prospect(service: AdminService, source: str, report: Report | None) -> Outlook:
    """What the jobs of a source have to expect; `report` is what was just read of it. Raises NoSuchSource."""
    standing = service.standing(source)
    runner = next((runner for runner in service.supervisor.runners if runner.name == source), None)
    seen = (swept.census for swept in service.history.sweeps(source, _SWEEPS_DRAWN) if swept.census is not None)
    return Outlook(
        standing=standing,
        state=service.supervisor.state,
        halted=service.supervisor.halt_switch.current,
        breaker=service.breaker(source),
        action=service.settings.sources[source].action,
        census=report.census if report else next(seen, None),
        held_back=service.held(source),
        refused=runner.refused if runner else (),
    )


def job_row(found: Found, expecting: Outlook, service: AdminService) -> JobRow:
    job, name = found.evidence, messages.format_key(found.evidence.key)
    return JobRow(
        anchor=f"job-{blake2b(repr((found.source, job.key)).encode('utf-8', 'replace'), digest_size=8).hexdigest()}",
        source=found.source,
        job=text(name),
        link=link(found.source, name),
        kind=text(job.kind) if job.kind is not None else None,
        verdict=verdict(job),
        age=gauge("age", job.age_seconds, job.timeout_seconds, "timeout"),
        silence=gauge("silence", job.silence_seconds, job.stall_seconds, "stall window"),
        why=visible(messages.describe_verdict(job)),
        next=expecting.of(job),
        started=job.started,
        actions=actions(service, found.source),
    )


def verdict(job: Evidence) -> str:
    """The verdict's name on the page: what is spared for want of knowledge is told apart."""
    return "unknown" if messages.spared_as_unknown(job) else job.verdict.value


def gauge(name: str, seconds: float | None, limit: float, limit_name: str) -> Gauge:
    over = seconds is None or seconds > limit
    return Gauge(name, duration(seconds), duration(limit), limit_name, filled(seconds, limit), over)


def actions(service: AdminService, source: str) -> Sequence[str]:
    """What can be done by hand with a job of this source: those that HTTP has an address for."""
    return [action for action in ("fail", "requeue") if action in service.actions(source)]


def _totals(rows: Sequence[SourceRow]) -> JobCounts | None:
    """Of all sources that were counted."""
    counted = [row.census for row in rows if row.census is not None]
    if not counted:
        return None
    running, late, stale = (
        sum(getattr(each, name) for each in counted) for name in ("running", "past_timeout", "stale")
    )
    return JobCounts(running, late, stale, None)


def _notes(service: AdminService, wanted: Filter) -> list[str]:
    if wanted.source is None or wanted.source in service.sources:
        return []
    return [visible(f"There is no source {wanted.source!r}{did_you_mean(wanted.source, service.sources)}")]


def _pages(wanted: Filter, found: Listing) -> tuple[str | None, str | None]:
    """Where the pages before and after this one are."""
    before = wanted.url(page=wanted.page - 1) if wanted.page > 1 else None
    after = wanted.url(page=wanted.page + 1) if found.more and not found.too_far else None
    return before, after


def _kind_row(row: tuple[str, str | None, int], rows: Sequence[tuple[str, str | None, int]], wanted: Filter) -> KindRow:
    source, kind, running = row
    return KindRow(
        source=source,
        kind=text(kind, 60) if kind is not None else None,
        running=running,
        share=round(100 * running / max(number for _, _, number in rows), 1),
        link=wanted.url(source=source, kind=kind, verdict=listings.RUNNING) if kind and len(kind) < 200 else None,
    )


def _decides(name: str) -> bool:
    """Whether a setting says when a job is stale, and what becomes of it then."""
    return name.endswith((".timeout_seconds", ".stall_seconds", ".action"))
