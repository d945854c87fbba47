"""Checks that a fence that was installed still holds back late writes."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.check.finding import Finding, warning
from reaper.errors import ReaperError
from reaper.fence import FenceState
from reaper.fence.installation import fence_status
from reaper.source import Source

_MESSAGES = {
    FenceState.OUTDATED: "the fence is not as it was installed, or not for this profile",
    FenceState.DISABLED: "the fence is disabled",
    FenceState.FOREIGN: "has a trigger or a function with the fence's name that the reaper did not create",
}


def check_fence(source: Source) -> Iterator[Finding]:
    """A fence that cannot be read gives no finding: other checks say what keeps the reaper from the table.

    Raises DatabaseUnavailable and DBAPIError.
    """
    try:
        fence = fence_status(source)
    except ReaperError:
        return
    if fence.switched_off:
        yield warning(
            fence.table, "the fence is switched off: late writes are not held back", "\n".join(fence.switched_off)
        )
    elif fence.state in _MESSAGES:
        fix = None if fence.state is FenceState.FOREIGN else f"reaper fence install --source {source.name}"
        yield warning(fence.table, f"{_MESSAGES[fence.state]}: late writes may not be held back", fix)
