"""Which halt is in force, as a process beside the daemon sees it: kept in the state directory, else asked for.

A daemon keeps every halt in its state directory. Where there is none that can be read, and where no halt is kept there
(the daemon may have been unable to write it), the daemon's address is asked. Without a state and without an answer no
halt can be seen: that is reported, and holds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import SecretStr

from reaper.common.terminal import warn
from reaper.config import Settings
from reaper.errors import ConfigError, ReaperError
from reaper.memory import HaltRecord, keeps_state, kept_halt
from reaper.operations.daemon_client import DaemonClient, configured_url

TIMEOUT_SECONDS = 2.0
_ASK_AGAIN_SECONDS, _TRY_AGAIN_SECONDS = 1.0, 30.0
"""A daemon that answers is asked at most so often, and one that does not at most so often."""


class HaltReader:
    """Call it to read the halt in force: before each batch. `report` gets one sentence where none can be seen."""

    def __init__(self, settings: Settings, report: Callable[[str], None] = warn) -> None:
        self._settings, self._report = settings, report
        self._kept = kept_halt(settings.state_dir)
        self._answer: HaltRecord | None = None
        self._answered = self._reported = False
        self._ask_at = float("-inf")

    def __call__(self) -> HaltRecord | None:
        """The halt; None when none is in force, or none can be seen. What cannot be read counts as a halt."""
        kept = self._kept()
        if kept is not None and not kept.is_unknown:
            return kept
        problem = self._ask()
        if self._answered:
            return self._answer
        seen = kept is not None or keeps_state(self._settings.state_dir)
        if not seen and problem is not None and not self._reported:
            self._reported = True
            self._report(f"no halt could be seen: {self._no_state()}, and {problem}")
        return kept

    def _ask(self) -> str | None:
        """Ask the daemon, if that is due. Returns why it has not answered. Its last answer counts until the next."""
        if time.monotonic() < self._ask_at:
            return None
        try:
            url = configured_url(self._settings)
        except ConfigError:
            return "the daemon's HTTP port is switched off"
        try:
            halted = DaemonClient(url, self._token(), TIMEOUT_SECONDS).supervisor_state()["halted"]
        except ReaperError as error:
            self._ask_at = time.monotonic() + _TRY_AGAIN_SECONDS
            return str(error)
        self._ask_at = time.monotonic() + _ASK_AGAIN_SECONDS
        self._answered = True
        self._answer = None if halted is None else HaltRecord(halted["by"], halted["reason"], halted["persistent"])
        return None

    def _token(self) -> SecretStr | None:
        """The configured token, if it can be read: the state can be read without one."""
        try:
            return next(iter(self._settings.http_tokens.values()), None)
        except ConfigError:
            return None

    def _no_state(self) -> str:
        if self._settings.state_dir is None:
            return "no state directory is set (REAPER_STATE_DIR)"
        return f"no daemon has kept its state in {self._settings.state_dir}"
