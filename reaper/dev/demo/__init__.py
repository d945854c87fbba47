"""A demonstration: worker processes that work, crash, hang and finish late, and the daemon, for a minute."""

from reaper.dev.demo.main import run

__all__ = ["run"]
