"""A minute of real life: worker processes that work, crash, hang and finish late, and the daemon beside them."""

from reaper.dev.demo.main import run

__all__ = ["run"]
