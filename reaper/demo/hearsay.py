"""What the daemon says: its log, read line by line while it is written."""

from __future__ import annotations

import json
from typing import Any

from reaper.demo.stage import Stage

SKIPPED = "Reaper skipped live job."


class Hearsay:
    """The daemon's log so far. `spared` is why it left a job alone, in its own words, by part."""

    def __init__(self, stage: Stage) -> None:
        self._log = stage.daemon_log
        self._parts = {actor.job: actor.part.name for actor in stage.actors if actor.part.has_job}
        self._read = 0
        self.spared: dict[str, str] = {}

    def news(self) -> list[str]:
        """Whole lines since the last call, for people."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [self._told(line) for line in whole.decode(errors="replace").splitlines()]

    def _told(self, line: str) -> str:
        try:
            said = json.loads(line)
        except ValueError:
            return line
        part = self._part_in(said)
        if said.get("event") == SKIPPED and part:
            self.spared[part] = (
                f"age {said['age_seconds']:.0f} s (timeout {said['timeout_seconds']:.0f} s), "
                f"last sign {said['silence_seconds']:.0f} s ago: {said['witness']}"
            )
            return f"{SKIPPED} {part}: {self.spared[part]}"
        return f"{said.get('event', line)}{f' {part}' if part else ''}"

    def _part_in(self, said: dict[str, Any]) -> str | None:
        """The part whose job is spoken of."""
        words = [str(word) for value in said.values() for word in (value if isinstance(value, list) else [value])]
        return next((self._parts[word] for word in words if word in self._parts), None)
