"""How many examples hypothesis tries: fewer by default, all with --thorough."""

from __future__ import annotations

thorough = False
"""Set by tests/conftest.py before it imports a test."""


def examples(usual: int, *, all_of_them: int) -> int:
    return all_of_them if thorough else usual
