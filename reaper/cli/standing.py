"""The supervisor's state as the daemon tells it, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reaper.duration import in_words
from reaper.model import Outcome


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The state, who halted it and why, and how each source stands."""
    halted = told["halted"]
    yield told["state"] if halted is None else f"{told['state']} by {_halted(halted)}"
    for source in told["sources"]:
        yield f"Source {source['name']} ({source['profile']}): {', '.join(_standing(source))}"
        yield from (f"  {problem}" for problem in source["problems"])


def swept_elsewhere(told: dict[str, Any]) -> list[str]:
    """The sources that another replica holds the lease of, as the last sweep found it."""
    return [source["name"] for source in told["sources"] if source["outcome"] == Outcome.STANDBY]


def _halted(halted: dict[str, Any]) -> str:
    lasts = ", also after a restart of the daemon" if halted["persistent"] else ""
    why = f": {halted['reason']}" if halted["reason"] else ""
    return f"{halted['by']}{lasts}{why}"


def _standing(source: dict[str, Any]) -> Iterator[str]:
    if source["sweeping"]:
        yield "being swept"
    if source["outcome"] is None:
        yield "not swept yet"
    else:
        yield f"last sweep {source['outcome']}"
    if (ago := source["succeeded_seconds_ago"]) is not None:
        yield f"last success {in_words(round(ago))} ago"
    if (due := source["next_seconds"]) is not None and not source["sweeping"]:
        yield f"next in {in_words(round(due))}" if due > 0 else "next is due"
