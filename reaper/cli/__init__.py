"""The command line. Thin: it asks, and shows what it is told."""

from reaper.cli.group import main

__all__ = ["main"]
