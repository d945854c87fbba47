"""Garbage is collected by a thread of its own, so that no finalizer runs in the middle of another thread's step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.daemons import PROJECT
from tests.support.protea import Protea

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="Python 3.12 and later collect garbage between bytecodes only"
)


def run(script: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=PROJECT, check=True, timeout=60)


def test_threads_share_objects_safely_while_finalizers_run() -> None:
    # Without gc_in_background_thread the process dies of a segmentation fault within two seconds.
    run("""
import gc, sys, threading, time
from reaper.common.background_gc import gc_in_background_thread

class Statement:
    def __init__(self):
        self.a, self.b, self.c = 1, 2, [3]

class Dropped:
    def __init__(self):
        self.itself = self
    def __del__(self):
        time.sleep(0)

def compile(statements, together):
    together.wait()
    for statement in statements:
        Dropped()
        statement.__dict__["seen"] = [1]

gc.set_threshold(1)
sys.setswitchinterval(1e-6)
with gc_in_background_thread():
    end = time.monotonic() + 3
    while time.monotonic() < end:
        statements, together = [Statement() for _ in range(200)], threading.Barrier(4)
        threads = [threading.Thread(target=compile, args=(statements, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(statement.c == [3] and statement.seen == [1] for statement in statements)
""")


def test_background_gc_collects_and_restores_the_interpreters_own_afterwards() -> None:
    run("""
import gc, time, weakref
from reaper.common.background_gc import gc_in_background_thread

class Knot:
    def __init__(self):
        self.itself = self

with gc_in_background_thread():
    with gc_in_background_thread():
        assert not gc.isenabled()
    assert not gc.isenabled()
    seen = weakref.ref(Knot())
    kept = [Knot() for _ in range(2000)]
    end = time.monotonic() + 30
    while seen() is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
assert gc.isenabled()
""")


def test_sweep_collects_garbage_in_background(protea: Protea) -> None:
    protea.stale()
    run(f"""
import gc
import psycopg
from tests.support.protea import Protea, SweepRecorder

class Checking(SweepRecorder):
    def reaped(self, source, sweep_id, batch):
        assert not gc.isenabled()
        super().reaped(source, sweep_id, batch)

with psycopg.connect({protea.libpq!r}, autocommit=True) as connection:
    assert Protea({protea.url!r}, connection).sweep(recorder=Checking()).reaped == 1
assert gc.isenabled()
""")


@pytest.mark.thorough
def test_daemon_collects_garbage_in_background_from_start_to_stop(protea: Protea) -> None:
    run(f"""
import gc, os, signal
from reaper.daemon import main
from reaper.config import load

def tick(self):
    assert not gc.isenabled()
    os.kill(os.getpid(), signal.SIGTERM)

main.Daemon.tick = tick
settings = load({{"database_url": {protea.url!r}, "http_port": 0}}, {{}})
assert main.run(settings, lambda: settings) == 0
assert gc.isenabled()
""")


def test_background_gc_stays_off_where_collecting_was_switched_off() -> None:
    run("""
import gc, threading
from reaper.common.background_gc import gc_in_background_thread

gc.disable()
with gc_in_background_thread():
    assert threading.active_count() == 1
assert not gc.isenabled()
""")
