"""How values look on the page: text from strangers, durations, moments, links."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import quote

from reaper.common.durations import format_duration

LONGEST = 160
_SPELLED = re.compile(r"\\(?:[nrt\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


@dataclass(frozen=True, slots=True)
class Text:
    """Text from a database or a person. `shown` fits in a line; `full` is all of it, and both can be seen."""

    shown: str
    full: str

    @property
    def cut(self) -> bool:
        return self.shown != self.full


@dataclass(frozen=True, slots=True)
class When:
    """A moment: in words, and as the database told it. Where it did not, `seconds_ago` stands for it."""

    words: str
    iso: str | None = None
    seconds_ago: float | None = None

    @property
    def title(self) -> str | None:
        return absolute(self.iso) if self.iso else None


def visible(text: str) -> str:
    """Whatever would break a line, turn the writing round or not be seen at all is spelled out.

    So is a backslash then, and where it reads as if something had been: no two texts become the same.
    """
    if text.isprintable() and not _SPELLED.search(text):
        return text
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


def text(value: object, longest: int = LONGEST) -> Text:
    """What is too long loses its middle: both ends tell names apart."""
    full = visible(str(value))
    if len(full) <= longest:
        return Text(full, full)
    half = longest // 2
    return Text(f"{full[:half]}…{full[-half:]}", full)


def duration(seconds: float | None) -> str:
    """In whole seconds: tenths that change with every look tell nothing."""
    if seconds is None or not math.isfinite(seconds):
        return "an unknown time"
    return format_duration(float(math.floor(seconds)))


def brief(seconds: float) -> str:
    """How long something short took."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)


def ago(seconds: float | None, iso: str | None = None) -> When:
    if seconds is None:
        return When("never", iso)
    return When("just now" if seconds < 1 else f"{duration(seconds)} ago", iso, seconds)


def absolute(iso: str) -> str:
    """A moment as the database told it, without what nobody reads."""
    found = _MOMENT.fullmatch(iso)
    return f"{found[1]} {found[2]} UTC" if found else visible(iso)


def link(source: str, job: str) -> str:
    """Where a job's page is."""
    return f"/jobs/{quote(source, safe='')}/{quote(job, safe='')}"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2,500 jobs`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
