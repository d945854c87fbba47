"""Follows the daemon's log while it is written."""

from __future__ import annotations

import json
from typing import Any

from reaper.dev.demo.processes import DemoProcesses

_SKIPPED = "Reaper skipped live job."
_LOCKED = "Reaper spares a stale job while another session locks its row."


class DaemonLogReader:
    """The daemon's log so far. `spared`: the last reason why it spared a job, by scenario."""

    def __init__(self, stage: DemoProcesses) -> None:
        self._log = stage.daemon_log
        self._parts = {actor.job: actor.part.name for actor in stage.workers if actor.part.has_job}
        self._read = 0
        self.spared: dict[str, str] = {}

    def new_lines(self) -> list[str]:
        """Complete lines since the last call, as text for people."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [self._describe(line) for line in whole.decode(errors="replace").splitlines()]

    def _describe(self, line: str) -> str:
        try:
            said = json.loads(line)
        except ValueError:
            return line
        event, part = said.get("event", line), self._parts.get(said.get("job", ""))
        if part is None:
            return f"{event} {said['error']}" if said.get("error") else str(event)
        if event in (_SKIPPED, _LOCKED):
            self.spared[part] = _describe_locked(said) if event == _LOCKED else _describe_spared(said)
            return f"{event} {part}: {self.spared[part]}"
        return f"{event} {part}"


def _describe_spared(fields: dict[str, Any]) -> str:
    age, timeout = f"{fields['age_seconds']:.0f} s", f"{fields['timeout_seconds']:.0f} s"
    return f"age {age} (timeout {timeout}), last sign {fields['silence_seconds']:.0f} s ago: {fields['witness']}"


def _describe_locked(fields: dict[str, Any]) -> str:
    return (
        f"its row is locked by {fields['application']!r} (pid {fields['pid']}), for {fields['held_seconds']} s so far"
    )
