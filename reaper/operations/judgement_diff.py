"""Which running jobs two configurations judge differently, and why: before a reload. Changes nothing.

Both judge by the rule, one directly after the other, over connections of their own. What counts is the verdict, and
what a sweep would do with a stale job. A job whose verdict differs although nothing that decides it does has moved
between the two looks: it is left out.

What holds all jobs of a source for a while (breaker, cap, quiet time) is no verdict. The difference says for each
source which of these settings differ, and what would hold a sweep of the new configuration now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from reaper.common import messages
from reaper.common.durations import format_duration
from reaper.config import Settings, SourceSettings
from reaper.config.settings import describe_setting
from reaper.database.server_identity import database_address
from reaper.model import Evidence, JobCounts, Key, Verdict
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source
from reaper.sweep.breaker import Breaker
from reaper.sweep.reasons_not_ended import Left, SourceGuards, decisions, held_by

MAX_COMPARED = 10_000
"""Of the jobs past their timeout, and of the running jobs, so many are compared for each source."""
_BATCH = 500

GUARDS = ("never", "quiet", "most", "observe")
"""The settings of a source that keep jobs from being ended, whatever their verdict."""

END, LEAVE = "ended", "left"


@dataclass(frozen=True, slots=True)
class Judged:
    """What one configuration says of a job; without `evidence` it is none of the source's. `ends`: a sweep would end
    it, by `action`.
    """

    evidence: Evidence | None
    ends: bool
    action: str

    @property
    def verdict(self) -> str:
        return "unknown to the source" if self.evidence is None else self.evidence.verdict.value

    @property
    def fate(self) -> str:
        return f"{END} by {self.action}" if self.ends else LEAVE

    @property
    def why(self) -> str:
        return messages.describe_verdict(self.evidence) if self.evidence else "it is not among its running jobs"


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job that the two judge differently. `because` has what decides it, where that differs."""

    key: Key
    kind: str | None
    present: Judged
    new: Judged
    because: Sequence[str]


@dataclass(frozen=True, slots=True)
class SourceDiff:
    """One source under both configurations. The counts are None where a configuration does not have the source.

    `changed` counts the jobs by their two verdicts; `jobs` are the first of them. `complete`: all running jobs were
    compared. `note` says what cannot be compared. `guards` has those of GUARDS that differ, with both values. `left`:
    what would keep a sweep of the new configuration from ending any job now.
    """

    source: str
    present: JobCounts | None
    new: JobCounts | None
    changed: Mapping[str, int] = field(default_factory=dict)
    jobs: Sequence[ChangedJob] = ()
    complete: bool = True
    note: str | None = None
    guards: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    left: Sequence[Left] = ()

    @property
    def differs(self) -> bool:
        if (self.present is None) is not (self.new is None):
            return True
        return bool(self.changed or self.guards) or self.note is not None


def diff_source(present: Settings, new: Settings, name: str, limit: int) -> SourceDiff:
    """Compare one source; at most `limit` jobs are listed. Raises DatabaseUnavailable, DBAPIError, ReaperError."""
    # What is remembered, such as outages, is the daemon's: its new configuration goes on with it.
    new = new.model_copy(update={"state_dir": present.state_dir})
    old_side, new_side = _side(present, name), _side(new, name)
    left = new_side.left if new_side else ()
    if old_side is None or new_side is None:
        return SourceDiff(name, old_side.census if old_side else None, new_side.census if new_side else None, left=left)
    guards = {
        guard: (before, after)
        for guard in GUARDS
        if (before := old_side.setting(guard)) != (after := new_side.setting(guard))
    }
    if (note := _not_comparable(old_side.source, new_side.source)) is not None:
        return SourceDiff(name, old_side.census, new_side.census, note=note, guards=guards, left=left)
    return replace(_compared(old_side, new_side, limit), guards=guards, left=left)


def _side(settings: Settings, name: str) -> _Side | None:
    return _Side(settings, settings.sources[name]) if name in settings.sources else None


class _Side:
    """A source under one configuration. Reads its counts at once."""

    def __init__(self, settings: Settings, own: SourceSettings) -> None:
        self._settings = settings
        self.own, self.source = own, create_one_off_source(settings, own)
        with self.source.connect() as connection:
            self._context = self.source.ask_probe(
                self.source.begin_evaluation(connection, new_downtime_tracker(settings))
            )
            with self.source.transaction(connection, read_only=True):
                self.census = self.source.survey.census_with_stale(connection, self._context)
        self._decisions = decisions(self.source, self.census)

    def setting(self, name: str) -> str:
        """A setting of the source as the file has it."""
        return describe_setting(name, getattr(self.own, name))

    @property
    def left(self) -> Sequence[Left]:
        """What would keep a sweep from ending any job now: breaker, cap, quiet time, or holds that cannot be read."""
        breaker = held_by(Breaker.from_settings(self._settings), self.census)
        return SourceGuards(breaker=breaker).with_decisions_of(self._decisions).of_source()

    def keys(self, *, running: bool) -> list[Key]:
        """Jobs past their timeout, and with `running` all running ones: the first of them, oldest first."""
        found = list[Key]()
        context, most = self._context, MAX_COMPARED + 1
        with self.source.connect() as connection:
            for view in self.source.views:
                with self.source.transaction(connection, read_only=True):
                    found += (
                        view.lookup.list_keys(connection, context, verdict=None, kind=None, limit=most)
                        if running
                        else view.lookup.overdue_keys(connection, context, most)
                    )
        return found

    def judge(self, keys: Collection[Key]) -> dict[Key, Judged]:
        """Each of the jobs, whether it runs or not, as a sweep of this configuration would judge it."""
        judged = dict[Key, Judged]()
        with self.source.connect() as connection:
            for view in self.source.views:
                is_swept = view in self.source.swept_views
                for batch in _batches(iter(keys)):
                    with self.source.transaction(connection, read_only=True):
                        found = view.lookup.evidence(connection, self._context, batch)
                    for job in found:
                        if job.key not in judged or job.verdict is not Verdict.ENDED:
                            kept = job.never is not None or job.key in self._decisions.holds
                            ends = job.verdict is Verdict.STALE and is_swept and not kept
                            judged[job.key] = Judged(job, ends, job.action or self.own.action)
        nothing = Judged(None, False, self.own.action)
        return {key: judged.get(key, nothing) for key in keys}


def _batches(keys: Iterator[Key]) -> Iterator[list[Key]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch


def _not_comparable(present: Source, new: Source) -> str | None:
    """Why a job of the one cannot be found in the other by its key."""
    if database_address(present.engine) != database_address(new.engine):
        return "the database is another one: its jobs are not compared"
    one, other = present.profile.jobs, new.profile.jobs
    if one.table != other.table:
        return f"the jobs are in another table: {other.table}, not {one.table}"
    if one.key != other.key:
        return f"jobs have another key: {', '.join(other.key)}, not {', '.join(one.key)}"
    return None


def _compared(present: _Side, new: _Side, limit: int) -> SourceDiff:
    one, other = present.source.profile.jobs, new.source.profile.jobs
    same_running = (one.running, one.log) == (other.running, other.log)
    lists = [side.keys(running=not same_running) for side in (present, new)]
    complete = all(len(keys) <= MAX_COMPARED for keys in lists)
    keys = list(dict.fromkeys(key for keys in lists for key in keys[:MAX_COMPARED]))
    before, after = present.judge(keys), new.judge(keys)
    changed, jobs = dict[str, int](), list[ChangedJob]()
    for key in keys:
        because = list(_because(before[key], after[key]))
        if present.own.quiet != new.own.quiet:
            because += _because_of_quiet_times(before[key], after[key])
        if not _differ(before[key], after[key]) or not because:
            continue
        step = f"{_short(before[key])} -> {_short(after[key])}"
        changed[step] = changed.get(step, 0) + 1
        if len(jobs) < limit:
            judged = after[key].evidence or before[key].evidence
            jobs.append(ChangedJob(key, judged.kind if judged else None, before[key], after[key], because))
    return SourceDiff(present.source.name, present.census, new.census, changed, jobs, complete)


def _differ(present: Judged, new: Judged) -> bool:
    """Another verdict, or another end by a sweep."""
    if _runs(present) or _runs(new):
        return (present.verdict, present.fate) != (new.verdict, new.fate)
    return False


def _runs(judged: Judged) -> bool:
    return judged.evidence is not None and judged.evidence.verdict is not Verdict.ENDED


def _short(judged: Judged) -> str:
    return f"{judged.verdict}, {judged.fate}" if judged.verdict == Verdict.STALE else judged.verdict


def _because(present: Judged, new: Judged) -> Iterator[str]:
    """What decides the verdict, where the two differ in it."""
    one, other = present.evidence, new.evidence
    if one is None or other is None:
        yield "only one of them looks for it"
        return
    if (one.verdict is Verdict.ENDED) is not (other.verdict is Verdict.ENDED):
        ended, which = (one, "the present one") if one.verdict is Verdict.ENDED else (other, "the new one")
        yield f"for {which} it does not run: {messages.describe_verdict(ended)}"
    for name in ("timeout", "stall"):
        before, after = (_threshold(evidence, name) for evidence in (one, other))
        if getattr(one, f"{name}_seconds") != getattr(other, f"{name}_seconds"):
            yield f"{'stall window' if name == 'stall' else name}: {before} -> {after}"
    if one.started != other.started:
        yield f"start: {_moment(one.started, one.started_from)} -> {_moment(other.started, other.started_from)}"
    if set(one.signs) != set(other.signs) or (one.witness, one.last_sign) != (other.witness, other.last_sign):
        last = _moment(one.last_sign, one.witness), _moment(other.last_sign, other.witness)
        if last[0] != last[1]:
            yield f"last sign of life: {last[0]} -> {last[1]}"
    if one.worker_lost != other.worker_lost:
        yield f"its worker is gone: {one.worker_lost or 'not asked'} -> {other.worker_lost or 'not asked'}"
    if one.unknown != other.unknown:
        yield f"unknown: {one.unknown or 'nothing'} -> {other.unknown or 'nothing'}"
    if present.ends and new.ends and present.action != new.action:
        yield f"action: {present.action} -> {new.action}"
    if one.never != other.never:
        yield f"never ended: {one.never or 'no'} -> {other.never or 'no'}"
    elif one.verdict is other.verdict is Verdict.STALE and present.ends is not new.ends:
        yield "sweeps end jobs whose start was lost under one of them only"


def _because_of_quiet_times(present: Judged, new: Judged) -> Iterator[str]:
    """Quiet time is no silence. The moments differ between any two looks: what counts is the verdict."""
    one, other = present.evidence, new.evidence
    if one is not None and other is not None and {one.verdict, other.verdict} == {Verdict.SPARED, Verdict.STALE}:
        yield f"quiet times: silence counts for a sign from before {one.audible_since} -> {other.audible_since}"


def _threshold(evidence: Evidence, name: str) -> str:
    return f"{format_duration(getattr(evidence, f'{name}_seconds'))} ({getattr(evidence, f'{name}_from')})"


def _moment(at: str | None, where: str | None) -> str:
    return f"{at or 'none'}{f' ({where})' if where else ''}"
