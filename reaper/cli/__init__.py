"""The command line: reads options, calls operations and prints their results."""

from reaper.cli.main import main

__all__ = ["main"]
