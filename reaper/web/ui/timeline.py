"""The geometry of a job's timeline, in units of the drawing. The template draws it.

Moments are shown as the database gave them; they are parsed here only to place them in the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reaper.common.messages import stale_in_is_unknown
from reaper.model import Evidence, LateSign, Verdict
from reaper.web.ui.formatting import When, absolute, duration, visible

LEFT, RIGHT = 16.0, 1064.0
_LETTER, _GAP, _LEVELS, _LINE = 6.4, 12.0, 4, 21.0
_ABOVE, _BELOW = 28.0, 36.0
_OWN_SECONDS = 1.0
"""A sign within so many seconds before an ending is the event that the ending itself wrote."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, or a threshold. `sort`: start, sign, limit, cutoff, now, ahead, end or late.

    `at` is in seconds before now. Its label starts at `x` (`anchor` start) or ends there (end); `label_y` is its line.
    """

    sort: str
    label: str
    when: When
    at: float
    x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis. `sort`: within or beyond the timeout, silent or ahead."""

    sort: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """`axis` is the height of the axis, from the top. `described` says in words what the drawing shows."""

    height: float
    axis: float
    marks: Sequence[Mark]
    stretches: Sequence[Stretch]
    described: str


def timeline(evidence: Evidence, audits: Sequence[Mapping[str, Any]], late: Iterable[LateSign]) -> Timeline | None:
    """None for a job whose start is not known."""
    marks = sorted(_marks(evidence, audits, late), key=lambda mark: -mark.at)
    if not any(mark.sort == "start" for mark in marks):
        return None
    oldest, newest = marks[0].at, marks[-1].at
    scale = (RIGHT - LEFT) / max(oldest - newest, 1.0)
    placed = [replace(mark, x=round(LEFT + (oldest - mark.at) * scale, 1)) for mark in marks]
    lines = _lines(placed)
    above, below = (max((n for up, n in lines if up is side), default=0) for side in (True, False))
    axis = _ABOVE + above * _LINE + 20
    return Timeline(
        height=axis + _BELOW + below * _LINE + 10,
        axis=axis,
        marks=[_labelled(mark, line, axis) for mark, line in zip(placed, lines, strict=True)],
        stretches=list(_stretches(placed, evidence)),
        described=_described(marks),
    )


def _marks(e: Evidence, audits: Sequence[Mapping[str, Any]], late: Iterable[LateSign]) -> Iterator[Mark]:
    if e.age_seconds is None or not math.isfinite(e.age_seconds):
        return
    age = e.age_seconds
    yield _mark("start", f"started ({e.started_from})" if e.started_from else "started", age, e.started)
    yield _mark("limit", f"timeout {duration(e.timeout_seconds)}", age - e.timeout_seconds)
    ends = list(_endings(e, audits))
    for witness, at in _signs(e, audits):
        seconds = _before(e.judged_at, at)
        if seconds is not None and not any(0 <= end.at - seconds < _OWN_SECONDS for end in ends):
            yield _mark("sign", f"sign of life: {visible(witness)}", seconds, at)
    yield from ends if e.verdict is Verdict.ENDED else _thresholds(e)
    for sign in late:
        if (seconds := _before(e.judged_at, sign.at)) is not None:
            yield _mark("late", f"late sign: {visible(sign.witness or sign.what)}", seconds, sign.at)


def _signs(e: Evidence, audits: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The newest of each witness, and those in the audit events of earlier endings."""
    sets = [e.signs, *(audit["signs"] for audit in audits if isinstance(audit.get("signs"), dict))]
    return {(witness, at) for signs in sets for witness, at in signs.items() if isinstance(at, str)}


def _endings(e: Evidence, audits: Sequence[Mapping[str, Any]]) -> Iterator[Mark]:
    for audit in audits:
        at = audit.get("judged_at")
        if isinstance(at, str) and (seconds := _before(e.judged_at, at)) is not None:
            yield _mark("end", f"ended: {visible(str(audit.get('reason', 'by the reaper')))}", seconds, at)


def _thresholds(e: Evidence) -> Iterator[Mark]:
    yield _mark("now", f"now: {e.verdict}", 0.0, e.judged_at)
    cutoff = _before(e.judged_at, e.audible_since)
    if cutoff is not None:
        yield _mark("cutoff", f"stall window {duration(e.stall_seconds)} back", cutoff, e.audible_since)
    if e.stale_in_seconds is not None and math.isfinite(e.stale_in_seconds) and not stale_in_is_unknown(e):
        yield _mark("ahead", "stale if still silent", -max(0.0, e.stale_in_seconds))


def _mark(sort: str, label: str, seconds: float, iso: str | None = None) -> Mark:
    words = f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}" if seconds < 0 else "now"
    return Mark(sort, label, When(words, iso, max(0.0, seconds)), seconds)


def _before(now: str | None, at: str | None) -> float | None:
    """By how many seconds `at` lies before `now`; None for infinity and for years that Python has not."""
    if now is None or at is None:
        return None
    try:
        return (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _stretches(marks: Sequence[Mark], e: Evidence) -> Iterator[Stretch]:
    """The parts within the timeout, beyond it, silent, and ahead of now."""
    place = {mark.sort: mark.x for mark in marks}
    lives = [mark.x for mark in marks if mark.sort in {"start", "sign"}]
    ends = [mark.x for mark in marks if mark.sort in {"end", "now"}]
    end = min(ends) if ends else max(lives)
    limit = min(place["limit"], end)
    yield Stretch("within", place["start"], round(limit - place["start"], 1))
    if end > place["limit"]:
        yield Stretch("beyond", limit, round(end - limit, 1))
    last = max((x for x in lives if x <= end), default=end)
    if end > last and e.silence_seconds is not None:
        yield Stretch("silent", last, round(end - last, 1))
    if e.verdict is not Verdict.ENDED and (ahead := max(mark.x for mark in marks)) > end:
        yield Stretch("ahead", end, round(ahead - end, 1))


def _lines(marks: Sequence[Mark]) -> list[tuple[bool, int]]:
    """For each mark: whether its label is above the axis, as those of thresholds are, and the line on which it fits."""
    taken: dict[tuple[bool, int], list[tuple[float, float]]] = {}
    return [_line(mark, taken) for mark in marks]


def _line(mark: Mark, taken: dict[tuple[bool, int], list[tuple[float, float]]]) -> tuple[bool, int]:
    above = mark.sort in {"limit", "cutoff", "now", "ahead"}
    begin = mark.x - _width(mark) if _at_end(mark) else mark.x
    end = begin + _width(mark)
    line = 0
    while line < _LEVELS - 1 and any(begin < right + _GAP and end + _GAP > left for left, right in
                                     taken.get((above, line), ())):  # fmt: skip
        line += 1
    taken.setdefault((above, line), []).append((begin, end))
    return above, line


def _width(mark: Mark) -> float:
    return _LETTER * len(f"{mark.label} · {mark.when.words}")


def _at_end(mark: Mark) -> bool:
    return mark.x + _width(mark) > RIGHT


def _labelled(mark: Mark, line: tuple[bool, int], axis: float) -> Mark:
    above, number = line
    y = axis - _ABOVE - number * _LINE if above else axis + _BELOW + number * _LINE
    return replace(mark, label_y=y, anchor="end" if _at_end(mark) else "start")


def _described(marks: Sequence[Mark]) -> str:
    parts = (f"{mark.label}, {mark.when.words}{f' ({absolute(mark.when.iso)})' if mark.when.iso else ''}" for mark in
            marks)  # fmt: skip
    return "; ".join(parts) + "."
