"""The steps of a worker and of two sweeps on one job, in every order that can happen, on a real PostgreSQL."""

from __future__ import annotations

import time
import pytest

from tests.interleaving import SCRIPTS, Stage
from tests.support import Protea


@pytest.mark.parametrize("name", SCRIPTS)
def test_whatever_the_order(protea: Protea, name: str) -> None:
    with Stage(protea, sweeps=int(__import__("os").environ.get("SWEEPS", "1"))) as stage:
        t = time.perf_counter()
        tally = stage.every_order(SCRIPTS[name])
        t = time.perf_counter() - t
    print(f"{name}: {tally} {t:.1f}s {t/tally.orders*1000:.1f} ms each")
