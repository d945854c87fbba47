"""Who sits at the terminal, and whether anybody does."""

from __future__ import annotations

import os
import pwd
import socket
import sys

import click

from reaper.cli import document, exits
from reaper.model import ReaperError
from reaper.nearest import did_you_mean
from reaper.settings import SourceSettings


def operator() -> str:
    """The person: who logged in, also behind sudo; else whom the process belongs to. With the host."""
    try:
        name = os.getlogin()
    except OSError:  # no terminal
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def present() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def refused(ctx: click.Context, why: str) -> int:
    """Tell in one line why nothing is done. Returns the exit status."""
    return document.refuse(ctx, ReaperError(why), [f"reaper: {why}"], exits.USAGE)


def action_of(source: SourceSettings, action: str) -> str:
    """The same action. Raises UsageError, with the nearest one, when the source's profile has none of that name."""
    choices = source.profile.choices
    if action not in choices:
        raise click.UsageError(
            f"Profile {source.profile.name!r} has no action {action!r}{did_you_mean(action, choices)}"
        )
    return action
