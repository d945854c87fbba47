"""Processes that stand still for a while, by SIGSTOP; in any case all of them move again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from reaper.dev.postgres import PrivatePostgreSQL


@contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """None of these processes, and none of their children, moves during the block. One of them may end meanwhile."""
    stopped: list[psutil.Process] = []
    try:
        # A parent comes before its children: once it stands still, it starts no more of them.
        for process in processes:
            _suspend(process, stopped)
            for child in _children(process):
                _suspend(child, stopped)
        yield
    finally:
        _resume(stopped)


@contextmanager
def frozen_server(server: PrivatePostgreSQL) -> Iterator[None]:
    """Nothing of the PostgreSQL server moves during the block; its port stays open."""
    with frozen(psutil.Process(server.pid)):
        yield


@contextmanager
def freezing(server: PrivatePostgreSQL, seconds: float) -> Iterator[Callable[[], None]]:
    """A function that freezes the server for so long. After the block the server moves again in any case."""
    stack = ExitStack()
    timer = threading.Timer(seconds, stack.close)

    def freeze() -> None:
        stack.enter_context(frozen_server(server))
        timer.start()

    try:
        yield freeze
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        stack.close()


def _suspend(process: psutil.Process, stopped: list[psutil.Process]) -> None:
    # Entered first: a process that is stopped just before an exception is resumed, too.
    stopped.append(process)
    with suppress(psutil.NoSuchProcess):
        process.suspend()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.NoSuchProcess:
        return []


def _resume(processes: Iterable[psutil.Process]) -> None:
    """A process that has ended is no reason to leave the others as they are."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()
