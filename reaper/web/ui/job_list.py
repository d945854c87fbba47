"""The list of jobs, filtered: of one source or of all of them, oldest first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from reaper.errors import ReaperError
from reaper.model import Evidence, Key, LockHolder, Verdict
from reaper.operations.report import DEFAULT_LIMIT, Report, ReportQuery
from reaper.web.service import AdminService

STUCK, RUNNING = "stuck", "running"
PAGE_LENGTH = 25
_MOST_PAGES = 8
_MOST_OFFSET = 100_000
_LONGEST_TEXT = 500

CHOICES = {
    STUCK: "past timeout",
    Verdict.STALE.value: "stale",
    Verdict.SPARED.value: "spared",
    Verdict.YOUNG.value: "young",
    RUNNING: "all running",
}
"""The verdicts by which the list is filtered, and their names on the page."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The filter in the URL. None means any source or kind."""

    source: str | None = None
    kind: str | None = None
    verdict: str = STUCK
    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> JobFilter:
        """A parameter that makes no sense is ignored: a person gets a page, not an error."""
        verdict, page = query.get("verdict", STUCK), query.get("page", "1")
        return cls(
            source=query.get("source", "")[:_LONGEST_TEXT] or None,
            kind=query.get("kind", "")[:_LONGEST_TEXT] or None,
            verdict=verdict if verdict in CHOICES else STUCK,
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
        )

    @property
    def narrowed(self) -> bool:
        return (self.source, self.kind, self.verdict) != (None, None, STUCK)

    def url(self, **changed: object) -> str:
        """The URL with this filter and these changes; any change but of the page leads to the first page."""
        other = replace(self, **{"page": 1, **changed})  # type: ignore[arg-type]
        values = {"source": other.source, "kind": other.kind, "verdict": other.verdict, "page": other.page}
        defaults = {"source": None, "kind": None, "verdict": STUCK, "page": 1}
        query = urlencode({name: value for name, value in values.items() if value != defaults[name]})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True)
class ListedJob:
    """One job of the list, and the session that holds its row."""

    source: str
    evidence: Evidence
    holder: LockHolder | None


@dataclass(frozen=True, slots=True)
class JobList:
    """One page of the list; `more` follow. `reports` by source: None for one that could not be read; `errors` says why.

    `too_far`: there are more jobs than can be merged into one order. One source with one verdict has no such limit.
    """

    jobs: Sequence[ListedJob]
    more: bool
    too_far: bool
    reports: Mapping[str, Report | None]
    errors: Mapping[str, ReaperError]


def list_jobs(service: AdminService, chosen: JobFilter, sources: Sequence[str]) -> JobList:
    """Read these sources. The error of one that cannot be read is in `errors`."""
    reports, errors = dict[str, Report | None](), dict[str, ReaperError]()
    jobs, more = list[ListedJob](), False
    single = len(sources) == 1 and len(_verdicts(chosen)) == 1
    page = chosen.page if single else min(chosen.page, _MOST_PAGES)
    offset = min((page - 1) * PAGE_LENGTH, _MOST_OFFSET)
    for name in sources:
        try:
            for report in _read(service, name, chosen, offset, single=single):
                reports[name] = report
                more = more or report.more
                jobs += [ListedJob(name, job, report.holders.get(job.key)) for job in report.jobs]
        except ReaperError as error:
            reports[name], errors[name] = None, error
    jobs.sort(key=oldest_first)
    shown = jobs[:PAGE_LENGTH] if single else jobs[offset : offset + PAGE_LENGTH]
    more = more or len(jobs) > (PAGE_LENGTH if single else offset + PAGE_LENGTH)
    return JobList(shown, more, not single and page == _MOST_PAGES and more, reports, errors)


def _read(service: AdminService, source: str, chosen: JobFilter, offset: int, *, single: bool) -> Iterator[Report]:
    """A source's jobs up to the end of the page: all of them have to be merged, unless the source is a `single` one."""
    limit = DEFAULT_LIMIT * math.ceil((offset + PAGE_LENGTH) / DEFAULT_LIMIT)
    if chosen.verdict == STUCK and chosen.kind is None:
        yield service.overdue(source, limit)
        return
    for verdict in _verdicts(chosen):
        if single:
            yield service.jobs(source, ReportQuery(verdict, chosen.kind, PAGE_LENGTH, offset))
        else:
            yield service.jobs(source, ReportQuery(verdict, chosen.kind, limit))


def _verdicts(chosen: JobFilter) -> Sequence[Verdict | None]:
    """The verdicts of the queries that the filter takes; None queries all of them."""
    if chosen.verdict == STUCK:
        return (Verdict.STALE, Verdict.SPARED)
    return (None,) if chosen.verdict == RUNNING else (Verdict(chosen.verdict),)


def oldest_first(job: ListedJob) -> float:
    """A start at -infinity has no age."""
    age = job.evidence.age_seconds
    return -math.inf if age is None else -age


def holders_of(jobs: Sequence[ListedJob]) -> Mapping[str, Mapping[Key, LockHolder]]:
    """The sessions that hold the rows of these jobs, by source."""
    holders = dict[str, dict[Key, LockHolder]]()
    for job in jobs:
        if job.holder is not None:
            holders.setdefault(job.source, {})[job.evidence.key] = job.holder
    return holders


def count_kinds(
    service: AdminService, sources: Sequence[str], on_error: Callable[[str, ReaperError], None]
) -> list[tuple[str, str | None, int]]:
    """Source, kind and number of running jobs, most first. `on_error` gets each source that could not be read."""
    counts = list[tuple[str, str | None, int]]()
    for name in sources:
        try:
            counts += [(name, kind, number) for kind, number in service.kinds(name)]
        except ReaperError as error:
            on_error(name, error)
    return sorted(counts, key=lambda row: -row[2])
