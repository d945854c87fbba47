"""Ends jobs that claim to be running and are not."""

__version__ = "0.1.0"
