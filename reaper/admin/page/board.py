"""Everything that the first page shows, as values: no HTML, and nothing that a template would have to work out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from reaper import __version__, words
from reaper.admin.desk import Desk
from reaper.admin.page import listing as listings
from reaper.admin.page.charts import Chart, chart, filled
from reaper.admin.page.headline import Cell, Headline, headline, strip
from reaper.admin.page.listing import CHOICES, Filter, Found, Listing
from reaper.admin.page.past import (
    ChangeRow,
    EndedRow,
    LateRow,
    SweptRow,
    change_row,
    ended_row,
    late_row,
    swept_row,
)
from reaper.admin.page.prospect import Next, Prospect
from reaper.admin.page.sources import SourceRow, source_row
from reaper.admin.page.text import Text, duration, link, text, visible
from reaper.halt import Halted
from reaper.model import Census, Evidence
from reaper.nearest import did_you_mean
from reaper.operations.looking import Report

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
    next: Next
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
class Board:
    version: str
    host: str
    state: str
    halted: Halted | None
    headline: Headline
    strip: Sequence[Cell]
    totals: Census | None
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


def make_board(desk: Desk, wanted: Filter) -> Board:
    """Reads the sources that answer. Raises nothing that a database may say."""
    names = [name for name in desk.sources if wanted.source in (None, name)]
    known = {name: desk.standing(name) for name in desk.sources}
    away = {name for name, standing in known.items() if standing.report and standing.report.database_away}
    # What is known to be away is asked again by its next sweep: nobody here has to wait for it, again and again.
    found = listings.listing(desk, wanted, [name for name in names if name not in away])
    errors = dict(found.errors)
    readable = [name for name in names if name not in away and name not in errors]
    counted = listings.kinds(desk, readable, errors.__setitem__)
    prospects = {name: prospect(desk, name, found.reports.get(name)) for name in known}
    holders = listings.held(found.jobs)
    prospects = {name: replace(each, holders=holders.get(name, {})) for name, each in prospects.items()}
    rows = [source_row(each, errors.get(name)) for name, each in prospects.items()]
    state, halted = desk.supervisor.state, desk.supervisor.halted.now
    late, sweeps = desk.history.late(_LATE_COUNTED), desk.history.sweeps(None, _SWEEPS_DRAWN)
    policy = [Policy(visible(name), visible(value), visible(origin)) for name, value, origin in
              desk.settings.described()]  # fmt: skip
    return Board(
        version=__version__,
        host=visible(desk.host),
        state=str(state) if state else "NOT SCHEDULED",
        halted=halted,
        headline=headline(rows, list(prospects.values()), halted, state),
        strip=strip(rows, state, len(late), more=len(late) == _LATE_COUNTED),
        totals=_totals(rows),
        sources=rows,
        filter=wanted,
        choices=CHOICES,
        notes=_notes(desk, wanted),
        jobs=[job_row(each, prospects[each.source], desk) for each in found.jobs],
        pages=_pages(wanted, found),
        too_far=found.too_far,
        unread=sorted({name for name in names if name in away or name in errors}),
        kinds=[_kind_row(row, counted, wanted) for row in counted[:_KINDS_SHOWN]],
        more_kinds=max(0, len(counted) - _KINDS_SHOWN),
        ended=[ended_row(each, late) for each in desk.history.endings(_REAPED_SHOWN)],
        late=[late_row(each) for each in late[:_OTHERS_SHOWN]],
        chart=chart(desk.sources, sweeps),
        sweeps=[swept_row(each) for each in sweeps[:_SWEEPS_SHOWN]],
        policy=policy,
        thresholds=[row for row in policy if row.name.startswith("sources.") and _decides(row.name)],
        changes=[change_row(each) for each in desk.history.changes(_OTHERS_SHOWN)],
    )


def prospect(desk: Desk, source: str, report: Report | None) -> Prospect:
    """What the jobs of a source have to expect; `report` is what was just read of it. Raises NoSuchSource."""
    standing = desk.standing(source)
    watch = next((watch for watch in desk.supervisor.watches if watch.name == source), None)
    seen = (swept.census for swept in desk.history.sweeps(source, _SWEEPS_DRAWN) if swept.census is not None)
    return Prospect(
        standing=standing,
        state=desk.supervisor.state,
        halted=desk.supervisor.halted.now,
        breaker=desk.breaker(source),
        action=desk.settings.sources[source].action,
        census=report.census if report else next(seen, None),
        held_back=desk.held(source),
        refused=watch.refused if watch else (),
    )


def job_row(found: Found, expecting: Prospect, desk: Desk) -> JobRow:
    job, name = found.evidence, words.job(found.evidence.key)
    return JobRow(
        anchor=f"job-{blake2b(repr((found.source, job.key)).encode('utf-8', 'replace'), digest_size=8).hexdigest()}",
        source=found.source,
        job=text(name),
        link=link(found.source, name),
        kind=text(job.kind) if job.kind is not None else None,
        verdict=verdict(job),
        age=gauge("age", job.age_seconds, job.timeout_seconds, "timeout"),
        silence=gauge("silence", job.silence_seconds, job.stall_seconds, "stall window"),
        why=visible(words.why(job)),
        next=expecting.of(job),
        started=job.started,
        actions=actions(desk, found.source),
    )


def verdict(job: Evidence) -> str:
    """The verdict's name on the page: what is spared for want of knowledge is told apart."""
    return "unknown" if words.in_doubt(job) else job.verdict.value


def gauge(name: str, seconds: float | None, limit: float, limit_name: str) -> Gauge:
    over = seconds is None or seconds > limit
    return Gauge(name, duration(seconds), duration(limit), limit_name, filled(seconds, limit), over)


def actions(desk: Desk, source: str) -> Sequence[str]:
    """What can be done by hand with a job of this source: those that HTTP has an address for."""
    return [action for action in ("fail", "requeue") if action in desk.actions(source)]


def _totals(rows: Sequence[SourceRow]) -> Census | None:
    """Of all sources that were counted."""
    counted = [row.census for row in rows if row.census is not None]
    if not counted:
        return None
    running, late, stale = (
        sum(getattr(each, name) for each in counted) for name in ("running", "past_timeout", "stale")
    )
    return Census(running, late, stale, None)


def _notes(desk: Desk, wanted: Filter) -> list[str]:
    if wanted.source is None or wanted.source in desk.sources:
        return []
    return [visible(f"There is no source {wanted.source!r}{did_you_mean(wanted.source, desk.sources)}")]


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
