"""The top of the first page: one sentence on the state of the daemon, the worst first, and a strip of a few values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.memory import HaltRecord
from reaper.model import Outcome
from reaper.scheduling.scheduler import State
from reaper.web.ui.formatting import count, duration, visible
from reaper.web.ui.next_step import SourceView
from reaper.web.ui.source_rows import SourceRow


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of the strip. `tone`: ok, warn, bad or hold; empty for a neutral one."""

    name: str
    value: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """The most important fact for an operator who has just been paged. `tone`: ok, warn, bad or hold."""

    tone: str
    title: str
    detail: str


def status_strip(rows: Sequence[SourceRow], state: State | None, late: int, *, more: bool) -> list[Cell]:
    """The daemon as a whole, in a few words. `more`: there may be more late signs than were counted."""
    tones = {State.RUNNING: "ok", State.HALTED: "hold"}
    held, away = [row.name for row in rows if row.release], [row.name for row in rows if row.away is not None]
    return [
        Cell("Supervisor", str(state) if state else "NOT SCHEDULED", tones.get(state, "bad") if state else "warn"),
        Cell("Breaker", f"open: {', '.join(held)}" if held else "closed", "hold" if held else ""),
        Cell("Role", _roles(rows)),
        _oldest_success(rows),
        Cell("Database", _databases(rows, away), "bad" if away else "warn" if _unread(rows) else ""),
        Cell("Late signs", f"{late}{'+' if more else ''}", "bad" if late else ""),
    ]


def _roles(rows: Sequence[SourceRow]) -> str:
    roles = [row.role for row in rows]
    if len(set(roles)) == 1:
        return roles[0]
    return ", ".join(f"{role} of {roles.count(role)}" for role in sorted(set(roles))) or "none"


def _oldest_success(rows: Sequence[SourceRow]) -> Cell:
    """That of the source whose last success is the longest ago."""
    succeeded = [row.succeeded for row in rows if row.succeeded.seconds_ago is not None]
    waiting = [row for row in rows if row.succeeded.seconds_ago is None and row.role != "standby"]
    if not rows or waiting:
        return Cell("Last success", "not yet", "warn")
    if not succeeded:
        return Cell("Last success", "stands by")
    return Cell("Last success", max(succeeded, key=lambda when: when.seconds_ago or 0.0).words)


def _databases(rows: Sequence[SourceRow], away: Sequence[str]) -> str:
    if away:
        return "away" if len(rows) == 1 else f"away: {', '.join(away)}"
    if unread := _unread(rows):
        return "not read" if len(rows) == 1 else f"not read: {', '.join(unread)}"
    return "reachable" if len(rows) == 1 else f"{len(rows)} reachable"


def _unread(rows: Sequence[SourceRow]) -> list[str]:
    return [row.name for row in rows if row.unread is not None]


def headline(
    rows: Sequence[SourceRow], sources: Sequence[SourceView], halted: HaltRecord | None, state: State | None
) -> Headline:
    """The worst first."""
    stale = sum(row.census.stale for row in rows if row.census)
    stuck = f"{count(stale, 'job')} {'is' if stale == 1 else 'are'} stuck"
    away = [row.name for row in rows if row.away is not None]
    if not rows:
        detail = "The daemon is still starting, or its configuration says `sources = []`: no schedule is configured."
        return Headline("warn", "No source is watched", detail)
    if state is State.FINISHED:
        return Headline("bad", "The schedule has ended", f"Nothing is swept any more. {stuck} as far as is known.")
    if away:
        return Headline("bad", _away_title(away, len(rows)), _away_detail(rows, stuck, stale))
    if halted is not None:
        now = stuck if stale else "nothing is stuck"
        return Headline("hold", f"Halted by {visible(halted.by)}", _halted_detail(sources, now))
    if held := [row for row in rows if row.release]:
        holds = "The cap holds" if all(row.cap for row in held) else "The breaker holds"
        return Headline("hold", f"{holds} {count(sum(row.release for row in held), 'job')}", _held_detail(held))
    if stale:
        return Headline("warn", stuck, _stuck_detail(sources, stale))
    if lost := sum(row.start_lost.stale for row in rows if row.start_lost):
        verb, their = ("is", "its") if lost == 1 else ("are", "their")
        return Headline(
            "warn", f"{count(lost, 'job')} {verb} stuck and lost {their} start", _start_lost_detail(sources)
        )
    return _nothing_stuck(rows)


def _away_title(away: Sequence[str], sources: int) -> str:
    if sources == 1:
        return "The database is away"
    return f"{len(away)} of {sources} databases are away" if len(away) > 1 else f"The database of {away[0]} is away"


def _away_detail(rows: Sequence[SourceRow], stuck: str, stale: int) -> str:
    away = [row.name for row in rows if row.away is not None]
    elsewhere = f" Elsewhere {stuck if stale else 'nothing is stuck'}." if len(away) < len(rows) else ""
    return (
        f"What follows about {', '.join(away)} is as it was seen last. The next sweep tries again; "
        f"the time of an outage is not silence.{elsewhere}"
    )


def _held_detail(rows: Sequence[SourceRow]) -> str:
    reasons = "; ".join(f"{row.name}: {row.cap or row.breaker}" for row in rows)
    if all(row.cap for row in rows):
        return f"{reasons}. This may be a slow mistake: look first, then release."
    return f"{reasons}. This looks like an outage, not like a mass death: look first, then release."


def _halted_detail(sources: Sequence[SourceView], stuck: str) -> str:
    elsewhere = [source.status.name for source in sources if source.another_sweeps]
    if not elsewhere:
        return f"Sweeps only look: {stuck}, and nothing is ended until a restart."
    return (
        f"The sweeps of this replica only look: {stuck}. This halt does not reach the replica that holds the "
        f"lease of {', '.join(elsewhere)}: halt that one too."
    )


def _stuck_detail(sources: Sequence[SourceView], stale: int) -> str:
    """When the stale jobs are ended, if none of them shows a sign of life."""
    concerned = [source for source in sources if source.census is not None and source.census.stale]
    them = "it" if stale == 1 else "them"
    waits = [source.status.next_seconds for source in concerned if source.status.next_seconds is not None]
    if any(source.status.sweeping for source in concerned):
        return "A sweep works now."
    if all(source.another_sweeps for source in concerned):
        return f"Another replica holds the lease; it ends {them} if it is not halted."
    if not waits or max(waits) < 1:
        return f"The next sweep, which is due, ends {them} if no sign of life comes before."
    which = "The next sweep, in" if len(concerned) == 1 else "The next sweeps, within"
    ends = "ends" if len(concerned) == 1 else "end"
    return f"{which} {duration(max(waits))}, {ends} {them} if no sign of life comes before."


def _start_lost_detail(sources: Sequence[SourceView]) -> str:
    concerned = [source for source in sources if source.start_lost is not None and source.start_lost.stale]
    left = ", ".join(source.status.name for source in concerned if not source.ends_start_lost)
    who = f"Sweeps of {left} do not end such jobs; `reaper cleanup` does." if left else "The next sweep ends them."
    return f"No entry of the log starts them. {who}"


def _nothing_stuck(rows: Sequence[SourceRow]) -> Headline:
    failed = [row for row in rows if row.last_outcome == Outcome.FAILED]
    if failed:
        title = "The last sweep failed" if len(rows) == 1 else f"Sweeps of {failed[0].name} fail"
        return Headline("bad", title, "; ".join(f"{row.name}: {row.problems[0]}" for row in failed if row.problems))
    if all(row.census is None for row in rows):
        return Headline("warn", "Not known yet", "No sweep has ended since the daemon started.")
    if unread := _unread(rows):
        title = f"{', '.join(unread)} could not be read just now"
        return Headline("warn", title, "What follows was seen by the last sweep, which found nothing stuck.")
    spared = sum(row.census.spared for row in rows if row.census)
    running = sum(row.census.running for row in rows if row.census)
    detail = count(running, "job runs", "jobs run") if running else "No job runs"
    if spared:
        detail += f"; {spared} past {'its' if spared == 1 else 'their'} timeout and alive, so spared"
    return Headline("ok", "Nothing is stuck", f"{detail}.")
