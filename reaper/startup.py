"""What is done once, when the daemon starts: closing what was interrupted, for the sources that ask for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from reaper import words
from reaper.audience import Audience, Subscriber
from reaper.halt import Halt
from reaper.hearing import Hearing
from reaper.making import make_source
from reaper.model import Census, DatabaseAway, Reaped, ReaperError
from reaper.operations.resume import Orders, Resumed, resume
from reaper.operations.wholesale import Hand
from reaper.settings import Settings, SourceSettings
from reaper.source import Source, in_one_line

LISTEN_SECONDS = 10.0
_AGAIN_SECONDS = 2.0

_log = structlog.get_logger("reaper")


class Startup:
    """A thread for each of these sources. A listener, which tells the subscribers of sweeps."""

    def __init__(self, subscribers: Sequence[Subscriber], halt: Halt | None = None) -> None:
        self._halt = halt or Halt()
        self._audience = Audience(subscribers)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, settings: Settings, found: SourceSettings) -> None:
        """Raises ConfigError when the source cannot be made."""
        source = make_source(settings, found)
        hearing = Hearing(settings.restart_grace_seconds)
        orders = Orders(found.resume_window_seconds, LISTEN_SECONDS, self._stopping.wait)
        hand = Hand(socket.gethostname(), settings.batch_size, self, self._told_to_stop)
        thread = threading.Thread(
            target=self._run, args=(source, hearing, orders, hand), name=f"resume {found.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self, patience_seconds: float) -> None:
        """Finish the batches in hand."""
        self._stopping.set()
        deadline = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _told_to_stop(self) -> bool:
        return self._stopping.is_set() or self._halt.on

    def _run(self, source: Source, hearing: Hearing, orders: Orders, hand: Hand) -> None:
        try:
            resumed = self._patiently(source, hearing, orders, hand)
        except DBAPIError as error:
            _log.error("Reaper could not close what was interrupted.", source=source.name, error=in_one_line(error))
        except ReaperError as error:
            _log.error("Reaper could not close what was interrupted.", source=source.name, error=str(error))
        except Exception as defect:  # noqa: BLE001  a thread of its own: nobody else would hear of it
            problem = f"{type(defect).__name__}: {defect}"
            _log.exception("Reaper could not close what was interrupted.", source=source.name, error=problem)
        else:
            if resumed is not None:
                _tell(resumed)

    def _patiently(self, source: Source, hearing: Hearing, orders: Orders, hand: Hand) -> Resumed | None:
        """A database that is still starting is waited for; beyond the window there is nothing left to close."""
        begun = time.monotonic()
        while True:
            try:
                return resume(source, hearing, orders, hand)
            except DatabaseAway:
                hearing.lost()
                if time.monotonic() - begun > orders.window:
                    raise
            if self._stopping.wait(_AGAIN_SECONDS):
                return None

    # --- passes on what is done ------------------------------------------------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        self._audience.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: Census) -> None:
        self._audience.surveyed(source, census)


def _tell(resumed: Resumed) -> None:
    _log.info(
        f"Reaper closed {resumed.toll.reaped} interrupted job(s).",
        source=resumed.source,
        found=resumed.found,
        closed=resumed.toll.reaped,
        window_seconds=resumed.window_seconds,
        sweep_id=resumed.run_id,
    )
    for failure in resumed.toll.failures:
        job = words.job(failure.key)
        _log.error("Reaper could not end a job.", source=resumed.source, job=job, error=failure.error)
