"""Formats of values on the page: untrusted text, durations, moments, links."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from reaper.common.durations import format_duration

LONGEST = 160
"""Characters of a text that are shown in a line."""
_ESCAPED = re.compile(r"\\(?:[nrt\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


@dataclass(frozen=True, slots=True)
class Text:
    """Text from a database or a person, made visible. `shown` fits in a line; `full` is all of it."""

    shown: str
    full: str

    @property
    def cut(self) -> bool:
        return self.shown != self.full


@dataclass(frozen=True, slots=True)
class When:
    """A moment: in words, and as the database gave it; `seconds_ago` where it gave none."""

    words: str
    iso: str | None = None
    seconds_ago: float | None = None

    @property
    def title(self) -> str | None:
        return absolute(self.iso) if self.iso else None


def visible(text: str) -> str:
    """Characters that break a line, change the writing direction or are invisible are spelled as Python escapes.

    A backslash is escaped too where the text holds such characters or looks as if it did: no two texts become equal.
    """
    if text.isprintable() and not _ESCAPED.search(text):
        return text
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


def text(value: object, longest: int = LONGEST) -> Text:
    """A text that is too long loses its middle: names often differ only at their ends."""
    full = visible(str(value))
    if len(full) <= longest:
        return Text(full, full)
    half = longest // 2
    return Text(f"{full[:half]}…{full[-half:]}", full)


def duration(seconds: float | None) -> str:
    """In whole seconds: the tenths of a page that refreshes itself are noise."""
    if seconds is None or not math.isfinite(seconds):
        return "an unknown time"
    return format_duration(float(math.floor(seconds))) if seconds >= 0 else "none yet"


def distance(seconds: float) -> str:
    """How long ago a moment was, or that it is in the future."""
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in the future by {duration(-seconds)}"


def brief(seconds: float) -> str:
    """A short duration, such as that of a sweep."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)


def ago(seconds: float | None, iso: str | None = None) -> When:
    if seconds is None:
        return When("never", iso)
    return When("just now" if -1 < seconds < 1 else distance(seconds), iso, seconds)


def absolute(iso: str) -> str:
    """A moment in UTC without fractions of a second."""
    match = _MOMENT.fullmatch(iso)
    return f"{match[1]} {match[2]} UTC" if match else visible(iso)


def link(source: str, job: str) -> str:
    """The path of a job's page, and its query."""
    jobs = f"/jobs/{quote(source, safe='')}/"
    # Browsers remove these from a path, also where they are spelled %2E.
    return f"{jobs}?{urlencode({'id': job})}" if job in {".", ".."} else f"{jobs}{quote(job, safe='')}"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2,500 jobs`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
