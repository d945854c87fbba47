"""What the daemon does without."""

from __future__ import annotations

import subprocess
import sys

from tests.support.daemons import PROJECT

_SCRIPT = """
import sys
from reaper import lean
lean.keep_out()
lean.share_heap()
import reaper.daemon.main
loaded = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
assert "pydantic.v1.main" not in sys.modules
assert not loaded & {"rich", "pygments", "jinja2", "pymysql", "celery"}, loaded
assert "sqlalchemy.dialects.mysql" not in sys.modules
"""


def test_what_the_daemon_never_uses_is_not_loaded() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _SCRIPT], cwd=PROJECT, check=True)


def test_what_is_there_already_stays() -> None:
    script = (
        "import rich, sys; from reaper import lean; lean.keep_out(); import rich.console; assert sys.modules['rich']"
    )
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)


def test_what_was_loaded_is_not_collected_again_and_what_comes_after_it_is() -> None:
    script = """
import gc, weakref
from reaper import lean
class Knot:
    def __init__(self):
        self.itself = self
before = len(gc.get_objects())
lean.settle()
assert len(gc.get_objects()) < before / 10
seen = weakref.ref(Knot())
gc.collect()
assert seen() is None
"""
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)
