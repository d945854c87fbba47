"""Deterministic thread schedules, and a search through all of them.

An `Actor` is a thread that stops before each of its steps until it may run it. A step that waits for a lock of another
actor is detected with `pg_blocking_pids`; the other actors continue, and the step ends in the turn that frees the lock.
`ScheduleSearch` enumerates every possible order of steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import psycopg

Gate = Callable[[str], None]
"""An actor calls it with the name of its next step; it returns when the actor may run that step."""

_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.002


class Cancelled(BaseException):
    """The schedule was cancelled before this actor had finished: a check has failed."""


class Actor:
    """A thread that runs `script` step by step. `pid` returns the server process of its session."""

    def __init__(self, name: str, pid: Callable[[], int], script: Callable[[Gate], None]) -> None:
        self.name, self.pid = name, pid
        self.step: str | None = None
        self.waits = False
        self.error: BaseException | None = None
        self._script = script
        self._turn: SimpleQueue[bool] = SimpleQueue()
        self._reached: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.step = self._reached.get(timeout=_TIMEOUT_SECONDS)

    def run_step(self) -> None:
        self._turn.put(True)

    def finishes_step(self, within: float) -> bool:
        """Wait up to `within` seconds. Returns whether the step ended; `step` is then the next one, or None."""
        try:
            self.step = self._reached.get(timeout=within)
        except Empty:
            return False
        return True

    def cancel(self) -> None:
        """End the thread at its next step."""
        self._turn.put(False)

    def join(self) -> None:
        self._thread.join(_TIMEOUT_SECONDS)

    def _run(self) -> None:
        try:
            self._script(self._gate)
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001  (raised by the test, in another thread)
            self.error = error
        finally:
            self._reached.put(None)

    def _gate(self, step: str) -> None:
        self._reached.put(step)
        if not self._turn.get():
            raise Cancelled


class Schedule:
    """One schedule: which actor ran which step in which turn. A blocked step ends in the turn that frees its lock."""

    def __init__(self, actors: Sequence[Actor], monitor: psycopg.Connection[Any]) -> None:
        self.actors, self._monitor = actors, monitor
        self._current_steps: dict[str, str] = {}
        self.turn = 0
        self.order: list[str] = []
        self.begun: dict[tuple[str, str], int] = {}
        self.done: dict[tuple[str, str], int] = {}
        self.waited = False
        for actor in actors:
            actor.start()

    def runnable(self) -> list[str]:
        """The names of the actors that can run in the next turn."""
        return [actor.name for actor in self.actors if actor.step is not None and not actor.waits]

    def run_step(self, name: str) -> None:
        """Run one step of an actor, and the rest of all steps that were waiting for it."""
        actor = next(a for a in self.actors if a.name == name)
        assert actor.step is not None
        self.turn += 1
        self._current_steps[name] = actor.step
        self.begun[name, actor.step] = self.turn
        self.order.append(f"{name}.{actor.step}")
        actor.run_step()
        self._wait_for_step(actor)
        # A step that ends may free another one.
        while [a for a in self.actors if a.waits and self._wait_for_step(a)]:
            pass

    def _wait_for_step(self, actor: Actor) -> bool:
        """Wait until the actor's step ends or waits for a lock of another actor. Returns whether it ended."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            # A blocked actor is not waited for: it was already seen to make no progress.
            if actor.finishes_step(0 if actor.waits else _POLL_SECONDS):
                actor.waits = False
                self.done[actor.name, self._current_steps.pop(actor.name)] = self.turn
                return True
            actor.waits = self._is_blocked(actor)
            if actor.waits:
                self.waited = True
                return False
        raise AssertionError(f"{actor.name} neither ends its step nor waits for a lock: {self.order}")

    def _is_blocked(self, actor: Actor) -> bool:
        pids = [a.pid() for a in self.actors]
        row = self._monitor.execute("SELECT pg_blocking_pids(%s::int) && %s::int[]", [actor.pid(), pids]).fetchone()
        return bool(row and row[0])

    def cancel(self) -> None:
        """End all actors. All are signalled before any is joined, because they may hold each other's locks."""
        for actor in self.actors:
            actor.cancel()
        for actor in self.actors:
            actor.join()


class ScheduleSearch:
    """Depth-first search through all schedules: each run changes the last choice that has an untried alternative."""

    def __init__(self) -> None:
        self._path: list[tuple[list[str], int]] = []
        self.count = 0

    def __iter__(self) -> Iterator[Callable[[int, list[str]], str]]:
        while True:
            self.count += 1
            yield self._choose
            while self._path and self._path[-1][1] == len(self._path[-1][0]) - 1:
                self._path.pop()
            if not self._path:
                return
            runnable, chosen = self._path[-1]
            self._path[-1] = (runnable, chosen + 1)

    def _choose(self, turn: int, runnable: list[str]) -> str:
        if turn == len(self._path):
            self._path.append((runnable, 0))
        expected, chosen = self._path[turn]
        assert expected == runnable, (
            f"the schedule is not deterministic: after the same turns {expected} could run, and now {runnable}"
        )
        return expected[chosen]
