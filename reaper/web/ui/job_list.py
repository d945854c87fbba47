"""Which jobs somebody wants to see, and the jobs: of one source or of all of them, oldest first."""

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
PAGE = 25
_MOST_PAGES = 8
_MOST_OFFSET = 100_000
_LONGEST = 500

CHOICES = {
    STUCK: "past timeout",
    Verdict.STALE.value: "stale",
    Verdict.SPARED.value: "spared",
    Verdict.YOUNG.value: "young",
    RUNNING: "all running",
}
"""What may be asked for, and its name on the page."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What was asked for in the URL. None and the first choice mean: whatever there is."""

    source: str | None = None
    kind: str | None = None
    verdict: str = STUCK
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """What makes no sense is taken for not said: a page is no place to be refused."""
        verdict, page = query.get("verdict", STUCK), query.get("page", "1")
        return cls(
            source=query.get("source", "")[:_LONGEST] or None,
            kind=query.get("kind", "")[:_LONGEST] or None,
            verdict=verdict if verdict in CHOICES else STUCK,
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
        )

    @property
    def narrowed(self) -> bool:
        return (self.source, self.kind, self.verdict) != (None, None, STUCK)

    def url(self, **changed: object) -> str:
        """The page with this filter, changed so; any change but of the page leads to the first one."""
        other = replace(self, **{"page": 1, **changed})  # type: ignore[arg-type]
        said = {"source": other.source, "kind": other.kind, "verdict": other.verdict, "page": other.page}
        plain = {"source": None, "kind": None, "verdict": STUCK, "page": 1}
        query = urlencode({name: value for name, value in said.items() if value != plain[name]})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True)
class Found:
    """One job among those asked for, and who holds its row."""

    source: str
    evidence: Evidence
    holder: LockHolder | None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of jobs; `more` follow. `reports` by source: None where it could not be read, and why in `errors`.

    `too_far`: there are more pages than can be put in one order; one source alone has no such limit.
    """

    jobs: Sequence[Found]
    more: bool
    too_far: bool
    reports: Mapping[str, Report | None]
    errors: Mapping[str, ReaperError]


def listing(service: AdminService, wanted: Filter, sources: Sequence[str]) -> Listing:
    """Read the sources. What one of them refuses is told in `errors`."""
    reports, errors = dict[str, Report | None](), dict[str, ReaperError]()
    found, more = list[Found](), False
    single = len(sources) == 1 and len(_verdicts(wanted)) == 1
    page = wanted.page if single else min(wanted.page, _MOST_PAGES)
    begin = min((page - 1) * PAGE, _MOST_OFFSET)
    for name in sources:
        try:
            for report in _read(service, name, wanted, begin, single=single):
                reports[name] = report
                more = more or report.more
                found += [Found(name, job, report.holders.get(job.key)) for job in report.jobs]
        except ReaperError as error:
            reports[name], errors[name] = None, error
    found.sort(key=_oldest)
    shown = found[:PAGE] if single else found[begin : begin + PAGE]
    more = more or len(found) > (PAGE if single else begin + PAGE)
    return Listing(shown, more, not single and page == _MOST_PAGES and more, reports, errors)


def _read(service: AdminService, source: str, wanted: Filter, begin: int, *, single: bool) -> Iterator[Report]:
    """The first of a source's jobs, up to the end of the page; those of the page alone, where that can be asked."""
    enough = DEFAULT_LIMIT * math.ceil((begin + PAGE) / DEFAULT_LIMIT)
    if wanted.verdict == STUCK and wanted.kind is None:
        yield service.overdue(source, enough)
        return
    for verdict in _verdicts(wanted):
        if single:
            yield service.look(source, ReportQuery(verdict, wanted.kind, PAGE, begin))
        else:
            yield service.look(source, ReportQuery(verdict, wanted.kind, enough))


def _verdicts(wanted: Filter) -> Sequence[Verdict | None]:
    """Which looks it takes."""
    if wanted.verdict == STUCK:
        return (Verdict.STALE, Verdict.SPARED)
    return (None,) if wanted.verdict == RUNNING else (Verdict(wanted.verdict),)


def _oldest(job: Found) -> float:
    """A start that is infinitely long ago has no age."""
    age = job.evidence.age_seconds
    return -math.inf if age is None else -age


def held(jobs: Sequence[Found]) -> Mapping[str, Mapping[Key, LockHolder]]:
    """Who holds the rows, by source."""
    holders = dict[str, dict[Key, LockHolder]]()
    for job in jobs:
        if job.holder is not None:
            holders.setdefault(job.source, {})[job.evidence.key] = job.holder
    return holders


def kinds(
    service: AdminService, sources: Sequence[str], tell: Callable[[str, ReaperError], None]
) -> list[tuple[str, str | None, int]]:
    """Source, kind and number of running jobs, most first. `tell` is told which source refused, and why."""
    found = list[tuple[str, str | None, int]]()
    for name in sources:
        try:
            found += [(name, kind, number) for kind, number in service.kinds(name)]
        except ReaperError as error:
            tell(name, error)
    return sorted(found, key=lambda row: -row[2])
