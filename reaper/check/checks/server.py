"""Is the server one that a reaper can work on, and how does it treat the connected role?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reaper.check.context import CheckContext
from reaper.check.finding import Finding, error, note, warning

_ENOUGH = {"statement_timeout": 60.0, "idle_in_transaction_session_timeout": 10.0, "transaction_timeout": 60.0}
_CLOCKS_AGREE = 2.0


def check_server(ctx: CheckContext, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    server = ctx.catalog.server
    if server.standby:
        yield error("server", "is a standby in recovery: nothing can be written there; connect to the primary")
    if server.read_only:
        yield error(
            "server",
            f"default_transaction_read_only is on for the role {server.role!r}: nothing can be written",
            ctx.catalog.fixes.set_for_role("default_transaction_read_only", "off"),
        )
    yield from _check_timeouts(ctx)
    yield from _check_clock(ctx, host_clock)


def _check_timeouts(ctx: CheckContext) -> Iterator[Finding]:
    for name, seconds in ctx.catalog.server.timeouts.items():
        if not 0 < seconds < _ENOUGH[name]:
            continue
        message = f"{name} of the role {ctx.catalog.server.role!r} is {seconds:g} s"
        fix = ctx.catalog.fixes.set_for_role(name, f"'{_ENOUGH[name]:g}s'")
        if name == "transaction_timeout":
            yield warning("server", f"{message}: a longer survey is cut off", fix)
        else:
            yield note("server", f"{message}; the reaper sets its own for each of its transactions", fix)


def _check_clock(ctx: CheckContext, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    server = ctx.catalog.server
    if host_clock is not None:
        ahead = server.now.timestamp() - host_clock()
        if abs(ahead) > _CLOCKS_AGREE:
            way = "ahead of" if ahead > 0 else "behind"
            yield note(
                "server",
                f"the database's clock is {abs(ahead):.0f} s {way} this host's; verdicts use the database's alone",
            )
    up = (server.now - server.started).total_seconds()
    if up < ctx.stall_seconds:
        yield note(
            "server",
            f"was started {up:.0f} s ago, less than the stall window of {ctx.stall_seconds:g} s: until it has been "
            "up for longer, silence from before counts only with a restart grace of 0",
        )
