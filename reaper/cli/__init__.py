"""The command line. Thin: it asks, and shows what it is told."""

from reaper.cli.main import main

__all__ = ["main"]
