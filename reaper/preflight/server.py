"""Is the server one that a reaper can work on, and how does it treat the connected role?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reaper.preflight.examination import Examination
from reaper.preflight.finding import Finding, error, note, warning
from reaper.preflight.postgresql import OLDEST

_ENOUGH = {"statement_timeout": 60.0, "idle_in_transaction_session_timeout": 10.0, "transaction_timeout": 60.0}
_CLOCKS_AGREE = 2.0


def too_old(version: tuple[int | str, ...] | None) -> Finding | None:
    """Told alone: the catalogs of such a server lack what the other checks ask for."""
    if version is None or int(version[0]) >= OLDEST:
        return None
    shown = ".".join(map(str, version))
    return error("server", f"PostgreSQL {shown} is too old: {OLDEST} or newer is supported; nothing else was examined")


def check_server(exam: Examination, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    server = exam.catalog.server
    if server.standby:
        yield error("server", "is a standby in recovery: nothing can be written there; connect to the primary")
    if server.read_only:
        yield error(
            "server",
            f"default_transaction_read_only is on for the role {server.role!r}: nothing can be written",
            exam.catalog.remedies.set_for_role("default_transaction_read_only", "off"),
        )
    yield from _check_timeouts(exam)
    yield from _check_clock(exam, host_clock)


def _check_timeouts(exam: Examination) -> Iterator[Finding]:
    for name, seconds in exam.catalog.server.timeouts.items():
        if not 0 < seconds < _ENOUGH[name]:
            continue
        message = f"{name} of the role {exam.catalog.server.role!r} is {seconds:g} s"
        fix = exam.catalog.remedies.set_for_role(name, f"'{_ENOUGH[name]:g}s'")
        if name == "transaction_timeout":
            yield warning("server", f"{message}: a longer survey is cut off", fix)
        else:
            yield note("server", f"{message}; the reaper sets its own for each of its transactions", fix)


def _check_clock(exam: Examination, host_clock: Callable[[], float] | None) -> Iterator[Finding]:
    server = exam.catalog.server
    if host_clock is not None:
        ahead = server.now.timestamp() - host_clock()
        if abs(ahead) > _CLOCKS_AGREE:
            way = "ahead of" if ahead > 0 else "behind"
            yield note(
                "server",
                f"the database's clock is {abs(ahead):.0f} s {way} this host's; verdicts use the database's alone",
            )
    up = (server.now - server.started).total_seconds()
    if up < exam.stall_seconds:
        yield note(
            "server",
            f"was started {up:.0f} s ago, less than the stall window of {exam.stall_seconds:g} s: until it has been "
            "up for longer, silence from before counts only with a restart grace of 0",
        )
