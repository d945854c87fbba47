"""Threads that take turns, in every order.

An `Actor` is a thread that stops before each of its steps until it is its turn. A step that has to wait for a lock
which another actor holds is noticed through `pg_blocking_pids`; the others go on, and the step ends in the turn in
which the lock becomes free. `every_order` runs a play again and again until each order that can happen has happened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import psycopg

Gate = Callable[[str], None]
"""Called by an actor with the name of its next step; returns when it is its turn."""

_DEADLINE = 30.0
_GLANCE = 0.002


class Cancelled(BaseException):
    """The play is over before this actor was: some check has failed."""


class Actor:
    """A thread that runs `script` step by step. `pid` tells the server process that does its work."""

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
        self.step = self._reached.get(timeout=_DEADLINE)

    def run_step(self) -> None:
        self._turn.put(True)

    def finishes_step(self, within: float) -> bool:
        """Whether the step came to its end; `step` is the next one then, None after the last."""
        try:
            self.step = self._reached.get(timeout=within)
        except Empty:
            return False
        return True

    def cancel(self) -> None:
        """Ends the thread at its next step."""
        self._turn.put(False)

    def join(self) -> None:
        self._thread.join(_DEADLINE)

    def _run(self) -> None:
        try:
            self._script(self._gate)
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001  (told to the test, which runs in another thread)
            self.error = error
        finally:
            self._reached.put(None)

    def _gate(self, step: str) -> None:
        self._reached.put(step)
        if not self._turn.get():
            raise Cancelled


class Schedule:
    """One play: who did what in which turn. A step that waited is done in the turn that set it free."""

    def __init__(self, actors: Sequence[Actor], monitor: psycopg.Connection[Any]) -> None:
        self.actors, self._monitor = actors, monitor
        self._doing: dict[str, str] = {}
        self.turn = 0
        self.order: list[str] = []
        self.begun: dict[tuple[str, str], int] = {}
        self.done: dict[tuple[str, str], int] = {}
        self.waited = False
        for actor in actors:
            actor.start()

    def runnable(self) -> list[str]:
        """Who could take the next turn."""
        return [actor.name for actor in self.actors if actor.step is not None and not actor.waits]

    def run_step(self, name: str) -> None:
        """One step of one actor, and the rest of every step that waited for it."""
        actor = next(a for a in self.actors if a.name == name)
        assert actor.step is not None
        self.turn += 1
        self._doing[name] = actor.step
        self.begun[name, actor.step] = self.turn
        self.order.append(f"{name}.{actor.step}")
        actor.run_step()
        self._wait_for_step(actor)
        # One that is set free may free another.
        while [a for a in self.actors if a.waits and self._wait_for_step(a)]:
            pass

    def _wait_for_step(self, actor: Actor) -> bool:
        """Until the actor's step is done, or waits for another actor; whether it is done."""
        deadline = time.monotonic() + _DEADLINE
        while time.monotonic() < deadline:
            # One that waits is asked about at once: it has been seen to stand still.
            if actor.finishes_step(0 if actor.waits else _GLANCE):
                actor.waits = False
                self.done[actor.name, self._doing.pop(actor.name)] = self.turn
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
        """Ends everybody: all are told before any is waited for, because they may hold each other's locks."""
        for actor in self.actors:
            actor.cancel()
        for actor in self.actors:
            actor.join()


class ScheduleSearch:
    """Depth first through every order: after each play the last turn that could go otherwise does."""

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
            able, chosen = self._path[-1]
            self._path[-1] = (able, chosen + 1)

    def _choose(self, turn: int, able: list[str]) -> str:
        if turn == len(self._path):
            self._path.append((able, 0))
        expected, chosen = self._path[turn]
        assert expected == able, f"the same turns led to another place: {expected}, then {able}"
        return expected[chosen]
