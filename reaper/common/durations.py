"""Durations as people write and read them: `6h`, `1h30m`, `45s`, `2d`; a bare number is seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# Each unit at most once, and larger units first: `30m1h` is more likely a mistake than meant.
_WITH_UNITS = re.compile(r"\s*".join(rf"(?:(?P<{unit}>{_NUMBER})\s*{unit})?" for unit in _UNITS))
_BARE = re.compile(_NUMBER)


def parse_duration(text: str) -> float:
    """The seconds of a duration. Raises ValueError, with a message for the user, for any other text."""
    stripped = text.strip()
    if _BARE.fullmatch(stripped):
        seconds = float(stripped)
    elif stripped and (match := _WITH_UNITS.fullmatch(stripped)):
        seconds = sum(float(count) * _UNITS[unit] for unit, count in match.groupdict(default="0").items())
    else:
        raise ValueError("expected a duration such as 6h, 30m, 1h30m, 45s or 21600 (seconds)")
    if not math.isfinite(seconds):
        raise ValueError("expected a duration that is finite")
    return seconds


def format_duration(seconds: float) -> str:
    """A short text, rounded down: the largest unit and the one below it (`7h 12m`); tenths below ten seconds."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 10:
        return f"{math.floor(seconds * 10) / 10:g}s"
    rest, counts = int(seconds), list[tuple[int, str]]()
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        counts.append((count, unit))
    first = next(place for place, (count, _) in enumerate(counts) if count)
    return " ".join(f"{count}{unit}" for count, unit in counts[first : first + 2] if count)


@dataclass(frozen=True, slots=True)
class DurationRange:
    """The durations from `low` to `high`, as they are written; a `low` of "0<" leaves out only zero itself.

    Settings, commands and requests refuse a duration with the same words.
    """

    low: str
    high: str

    @property
    def expected(self) -> str:
        low = "above 0 and up to" if self.low == "0<" else f"from {self.low} to"
        return f"expected a duration {low} {self.high}"

    def holds(self, seconds: float) -> bool:
        """Whether it is one of them; NaN never is."""
        least, most = parse_duration(self.low.removesuffix("<")), parse_duration(self.high)
        return least <= seconds <= most and not (self.low == "0<" and seconds == 0)

    def parse(self, text: str) -> float:
        """The seconds of one of these durations. Raises ValueError, with a message for the user."""
        seconds = parse_duration(text)
        if not self.holds(seconds):
            raise ValueError(self.expected)
        return seconds


ANY_AGE = DurationRange("0<", "3650d")
"""The ages that a command may ask for, and the limits that may be configured."""

ANY_HOLD = DurationRange("0<", "31d")
"""For how long a job may be held."""

UP_TO_A_DAY = DurationRange("0<", "1d")
