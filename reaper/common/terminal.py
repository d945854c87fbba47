"""Output to a terminal: control characters, which a database may contain, are made harmless."""

from __future__ import annotations

import click


def say(line: str) -> None:
    """Write one line for people to stderr."""
    click.echo(shown(line), err=True)


def shown(text: str) -> str:
    """The text with its control characters spelled out (`\\x1b`), so that a terminal does not obey them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
