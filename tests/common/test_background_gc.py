"""Collecting garbage never gives another thread its turn in the midst of a step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.daemons import PROJECT
from tests.support.protea import Protea

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="from Python 3.12 on the interpreter sees to it")


def run(script: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=PROJECT, check=True, timeout=60)


def test_threads_may_share_objects_whatever_finalizers_run() -> None:
    # Without it, the process dies of a segmentation fault within a second or two.
    run("""
import gc, sys, threading, time
from reaper.common.background_gc import collected_apart

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
with collected_apart():
    end = time.monotonic() + 5
    while time.monotonic() < end:
        statements, together = [Statement() for _ in range(200)], threading.Barrier(4)
        threads = [threading.Thread(target=compile, args=(statements, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(statement.c == [3] and statement.seen == [1] for statement in statements)
""")


def test_garbage_is_collected_and_afterwards_as_before() -> None:
    run("""
import gc, time, weakref
from reaper.common.background_gc import collected_apart

class Knot:
    def __init__(self):
        self.itself = self

with collected_apart():
    with collected_apart():
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


def test_lanes_hold_it(protea: Protea) -> None:
    protea.stale()
    run(f"""
import gc
import psycopg
from tests.support.protea import Heard, Protea

class Asked(Heard):
    def reaped(self, source, sweep_id, batch):
        assert not gc.isenabled()
        super().reaped(source, sweep_id, batch)

with psycopg.connect({protea.libpq!r}, autocommit=True) as connection:
    assert Protea({protea.url!r}, connection).sweep(heard=Asked()).reaped == 1
assert gc.isenabled()
""")


def test_the_daemon_holds_it_from_start_to_stop(protea: Protea) -> None:
    run(f"""
import gc, os, signal
from reaper import daemon
from reaper.config import load

def turn(self):
    assert not gc.isenabled()
    os.kill(os.getpid(), signal.SIGTERM)

daemon.Daemon.turn = turn
settings = load({{"database_url": {protea.url!r}, "http_port": 0}}, {{}})
assert daemon.run(settings, lambda: settings) == 0
assert gc.isenabled()
""")


def test_who_has_switched_it_off_finds_it_off() -> None:
    run("""
import gc, threading
from reaper.common.background_gc import collected_apart

gc.disable()
with collected_apart():
    assert threading.active_count() == 1
assert not gc.isenabled()
""")
