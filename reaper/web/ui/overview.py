"""The first page, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import blake2b

from reaper import __version__
from reaper.common import messages
from reaper.common.suggestions import did_you_mean
from reaper.config import SourceSettings
from reaper.memory import HaltRecord
from reaper.model import Evidence, JobCounts
from reaper.operations.report import Report
from reaper.source import add_counts
from reaper.web.service import AdminService
from reaper.web.ui.formatting import Text, duration, link, text, visible
from reaper.web.ui.headline import Cell, Headline, headline, status_strip
from reaper.web.ui.history_rows import (
    ChangeRow,
    EndedRow,
    LateRow,
    SweepRow,
    change_row,
    ended_row,
    late_row,
    sweep_row,
)
from reaper.web.ui.job_list import (
    CHOICES,
    PAGE_LENGTH,
    RUNNING,
    JobFilter,
    JobList,
    ListedJob,
    count_kinds,
    holders_of,
    list_jobs,
    oldest_first,
)
from reaper.web.ui.next_step import NextStep, SourceView
from reaper.web.ui.source_rows import SourceRow, source_row
from reaper.web.ui.sweep_chart import Chart, chart, filled

_LATE_COUNTED = 100  # as many as the history keeps
_REAPED_SHOWN, _SWEEPS_SHOWN, _SWEEPS_DRAWN, _OTHERS_SHOWN, _KINDS_SHOWN = 12, 30, 2000, 10, 12


@dataclass(frozen=True, slots=True)
class Gauge:
    """A bar that shows a duration against its limit. `filled` is in percent; the limit is at 50."""

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
    """One running job. An action on it is refused when `started` has changed meanwhile."""

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
class StartLostPanel:
    """The jobs whose start was lost, oldest first; there are `more`. `counts` in words."""

    jobs: Sequence[JobRow]
    counts: str
    more: bool


@dataclass(frozen=True, slots=True)
class KindRow:
    """The running jobs of one kind."""

    source: str
    kind: Text | None
    running: int
    share: float
    link: str | None


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One setting in force, and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """Everything that the first page shows."""

    version: str
    host: str
    state: str
    halted: HaltRecord | None
    headline: Headline
    strip: Sequence[Cell]
    totals: JobCounts | None
    sources: Sequence[SourceRow]
    filter: JobFilter
    choices: Mapping[str, str]
    notes: Sequence[str]
    jobs: Sequence[JobRow]
    pages: tuple[str | None, str | None]
    too_far: bool
    unread: Sequence[str]
    start_lost: StartLostPanel
    kinds: Sequence[KindRow]
    more_kinds: int
    ended: Sequence[EndedRow]
    late: Sequence[LateRow]
    chart: Chart
    sweeps: Sequence[SweepRow]
    policy: Sequence[PolicyRow]
    thresholds: Sequence[PolicyRow]
    changes: Sequence[ChangeRow]


def make_overview(service: AdminService, chosen: JobFilter) -> OverviewPage:
    """Reads the sources that answer. A source that cannot be read is no error: the page says so."""
    names = [name for name in service.sources if chosen.source in (None, name)]
    # A database that is known to be away is asked again by its next sweep: no reader has to wait for that.
    statuses = {name: service.source_status(name) for name in service.sources}
    away = {name for name, status in statuses.items() if status.report and status.report.database_away}
    listed = list_jobs(service, chosen, [name for name in names if name not in away])
    errors = dict(listed.errors)
    readable = [name for name in names if name not in away and name not in errors]
    kinds = count_kinds(service, readable, errors.__setitem__)
    holders = holders_of(listed.jobs)
    states = {
        name: replace(source_view(service, name, listed.reports.get(name)), holders=holders.get(name, {}))
        for name in statuses
    }
    rows = [source_row(source, errors.get(name)) for name, source in states.items()]
    state, halted = service.supervisor.state, service.supervisor.halt_switch.current
    late, sweeps = service.history.late(_LATE_COUNTED), service.history.sweeps(None, _SWEEPS_DRAWN)
    policy = [PolicyRow(*(visible(part) for part in setting)) for setting in service.settings.described()]
    return OverviewPage(
        version=__version__,
        host=visible(service.host),
        state=str(state) if state else "NOT SCHEDULED",
        halted=halted,
        headline=headline(rows, list(states.values()), halted, state),
        strip=status_strip(rows, state, len(late), more=len(late) == _LATE_COUNTED),
        totals=_totals(rows),
        sources=rows,
        filter=chosen,
        choices=CHOICES,
        notes=_notes(service, chosen),
        jobs=[job_row(job, states[job.source], service) for job in listed.jobs],
        pages=_pages(chosen, listed),
        too_far=listed.too_far,
        unread=sorted({name for name in names if name in away or name in errors}),
        start_lost=_start_lost(listed, states, service),
        kinds=[_kind_row(row, kinds, chosen) for row in kinds[:_KINDS_SHOWN]],
        more_kinds=max(0, len(kinds) - _KINDS_SHOWN),
        ended=[ended_row(record, late) for record in service.history.endings(_REAPED_SHOWN)],
        late=[late_row(record) for record in late[:_OTHERS_SHOWN]],
        chart=chart(service.sources, sweeps),
        sweeps=[sweep_row(record) for record in sweeps[:_SWEEPS_SHOWN]],
        policy=policy,
        thresholds=[row for row in policy if row.name.startswith("sources.") and _is_threshold(row.name)],
        changes=[change_row(entry) for entry in service.history.changes(_OTHERS_SHOWN)],
    )


def source_view(service: AdminService, source: str, report: Report | None) -> SourceView:
    """The state of a source; `report` is what was just read of it. Raises NoSuchSource."""
    runner = next((runner for runner in service.supervisor.runners if runner.name == source), None)
    return SourceView(
        status=service.source_status(source),
        state=service.supervisor.state,
        halted=service.supervisor.halt_switch.current,
        breaker=service.breaker(source),
        action=service.settings.sources[source].action,
        census=service.census(source, report),
        held_back=service.held(source),
        refusal=runner.refusal if runner else lambda _: None,
        start_lost=report.start_lost.census if report and report.start_lost else None,
        ends_start_lost=service.settings.sources[source].start_lost == "end",
        decisions=service.decisions(source, report),
        limits=_limits(service.settings.sources[source]),
    )


def _limits(settings: SourceSettings) -> str:
    """How many jobs of a source may be ended in a while, and when and of which kinds none is."""
    cap = f"at most {settings.most}" if settings.most is not None else "no cap"
    quiet = [f"quiet {', '.join(map(str, settings.quiet))}"] if settings.quiet else []
    never = [f"never {', '.join(settings.never)}"] if settings.never else []
    return visible("; ".join([cap, *quiet, *never]))


def job_row(listed: ListedJob, source: SourceView, service: AdminService) -> JobRow:
    job, name = listed.evidence, messages.format_key(listed.evidence.key)
    identity = repr((listed.source, job.key)).encode("utf-8", "replace")
    return JobRow(
        anchor=f"job-{blake2b(identity, digest_size=8).hexdigest()}",
        source=listed.source,
        job=text(name),
        link=link(listed.source, name),
        kind=text(job.kind) if job.kind is not None else None,
        verdict=verdict(job),
        age=gauge("age", job.age_seconds, job.timeout_seconds, "timeout"),
        silence=gauge("silence", job.silence_seconds, job.stall_seconds, "stall window"),
        why=visible(messages.describe_verdict(job)),
        next=source.next_step(job),
        started=job.started,
        actions=actions(service, listed.source),
    )


def verdict(job: Evidence) -> str:
    """The verdict's name on the page: `unknown` for a job that is spared because a witness could not be asked."""
    return "unknown" if messages.spared_as_unknown(job) else job.verdict.value


def gauge(name: str, seconds: float | None, limit: float, limit_name: str) -> Gauge:
    """Empty where the duration is unknown."""
    over = seconds is not None and seconds > limit
    share = 0.0 if seconds is None else filled(seconds, limit)
    return Gauge(name, duration(seconds), duration(limit), limit_name, share, over)


def actions(service: AdminService, source: str) -> Sequence[str]:
    """The actions on a job of this source that HTTP offers."""
    return [action for action in ("fail", "requeue") if action in service.action_names(source)]


def _totals(rows: Sequence[SourceRow]) -> JobCounts | None:
    """The counts of all sources together, as far as they are known."""
    counted = [row.census for row in rows if row.census is not None]
    if not counted:
        return None
    names = "running", "past_timeout", "stale", "worker_lost", "lost_young"
    sums = {name: sum(getattr(census, name) for census in counted) for name in names}
    return JobCounts(oldest_started_epoch=None, **sums)


def _notes(service: AdminService, chosen: JobFilter) -> list[str]:
    if chosen.source is None or chosen.source in service.sources:
        return []
    return [visible(f"There is no source {chosen.source!r}{did_you_mean(chosen.source, service.sources)}")]


def _start_lost(listed: JobList, states: Mapping[str, SourceView], service: AdminService) -> StartLostPanel:
    by_source = {name: report.start_lost for name, report in listed.reports.items() if report and report.start_lost}
    jobs = [ListedJob(name, job, None) for name, lost in by_source.items() for job in lost.jobs]
    jobs.sort(key=oldest_first)
    counts = reduce(add_counts, (lost.census for lost in by_source.values()), JobCounts(0, 0, 0, None))
    return StartLostPanel(
        jobs=[job_row(job, states[job.source], service) for job in jobs[:PAGE_LENGTH]],
        counts=messages.describe_counts(counts),
        more=counts.running > PAGE_LENGTH,
    )


def _pages(chosen: JobFilter, listed: JobList) -> tuple[str | None, str | None]:
    """The URLs of the pages before and after this one."""
    before = chosen.url(page=chosen.page - 1) if chosen.page > 1 else None
    after = chosen.url(page=chosen.page + 1) if listed.more and not listed.too_far else None
    return before, after


def _kind_row(
    row: tuple[str, str | None, int], rows: Sequence[tuple[str, str | None, int]], chosen: JobFilter
) -> KindRow:
    source, kind, running = row
    return KindRow(
        source=source,
        kind=text(kind, 60) if kind is not None else None,
        running=running,
        share=round(100 * running / max(number for _, _, number in rows), 1),
        link=chosen.url(source=source, kind=kind, verdict=RUNNING) if kind and len(kind) < 200 else None,
    )


def _is_threshold(name: str) -> bool:
    """Whether a setting decides when a job is stale, or what happens to it then."""
    return name.endswith((".timeout_seconds", ".stall_seconds", ".action"))
