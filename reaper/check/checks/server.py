"""Checks that the server takes writes, and looks at its timeouts, clock and start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reaper.check.context import CheckContext
from reaper.check.finding import Finding, error, note, warning

_ENOUGH_SECONDS = {"statement_timeout": 60.0, "idle_in_transaction_session_timeout": 10.0, "transaction_timeout": 60.0}
_CLOCK_TOLERANCE_SECONDS = 2.0


def check_server(context: CheckContext, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    server = context.catalog.server
    if server.standby:
        yield error("server", "is a standby in recovery: nothing can be written there; connect to the primary")
    if server.read_only:
        yield error(
            "server",
            f"default_transaction_read_only is on for {context.role}: nothing can be written",
            context.catalog.fixes.set_for_role("default_transaction_read_only", "off"),
        )
    yield from _check_timeouts(context)
    yield from _check_clock(context, host_clock)
    yield from _check_start(context)


def _check_timeouts(context: CheckContext) -> Iterator[Finding]:
    for name, seconds in context.catalog.server.timeouts.items():
        if not 0 < seconds < _ENOUGH_SECONDS[name]:
            continue
        message = f"{name} of {context.role} is {seconds:g} s"
        fix = context.catalog.fixes.set_for_role(name, f"'{_ENOUGH_SECONDS[name]:g}s'")
        if name == "transaction_timeout":
            yield warning("server", f"{message}: a longer survey is cut off", fix)
        else:
            yield note("server", f"{message}; the reaper sets its own in each of its transactions", fix)


def _check_clock(context: CheckContext, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    if host_clock is None:
        return
    ahead = context.catalog.server.now.timestamp() - host_clock()
    if abs(ahead) > _CLOCK_TOLERANCE_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        message = f"the database's clock is {abs(ahead):.0f} s {way} this host's; only the database's clock decides"
        yield note("server", message)


def _check_start(context: CheckContext) -> Iterator[Finding]:
    server = context.catalog.server
    up = (server.now - server.started).total_seconds()
    if up < context.stall_seconds:
        yield note(
            "server",
            f"was started {up:.0f} s ago, less than the stall window of {context.stall_seconds:g} s: until it has run "
            "for longer, silence before its start counts only with a restart grace of 0",
        )
