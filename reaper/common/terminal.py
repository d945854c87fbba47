"""Text for a terminal: what strangers wrote is made printable."""

from __future__ import annotations

import click


def say(line: str) -> None:
    """One line for people, on stderr."""
    click.echo(shown(line), err=True)


def warn(problem: str) -> None:
    """One line on stderr that says what is wrong."""
    say(f"reaper: {problem}")


def shown(text: str) -> str:
    """Text from a database, fit for a terminal: control characters are spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
