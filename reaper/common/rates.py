"""How many jobs in how long a time, as people write it: `50 in 10m`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reaper.common.durations import format_duration, parse_duration

_FORM = re.compile(r"(?P<jobs>[0-9]{1,9})\s+in\s+(?P<time>.+)")
_SHORTEST, _LONGEST = 60.0, 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Rate:
    """So many jobs in so many seconds."""

    jobs: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.jobs} in {format_duration(self.seconds)}"


def parse_rate(text: object, quoted: Callable[[object], str] = repr) -> Rate:
    """Raises ValueError, with a message for the user, for what is no rate. `quoted` spells a wrong value."""
    expected = "expected a number of jobs and a time from 1m to 7d, such as 50 in 10m"
    match = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{expected}, not {quoted(text)}")
    try:
        seconds = parse_duration(match["time"])
    except ValueError as error:
        raise ValueError(f"{expected}: {error}, not {quoted(text)}") from None
    if int(match["jobs"]) < 1 or not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(f"{expected}, not {quoted(text)}")
    return Rate(int(match["jobs"]), seconds)
