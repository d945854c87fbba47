"""Who sits at the terminal, and whether anybody does."""

from __future__ import annotations

import os
import pwd
import socket
import sys

import click

from reaper.cli import exit_codes, output
from reaper.common.suggestions import did_you_mean
from reaper.config import SourceSettings
from reaper.errors import ReaperError


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


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def usage_error(ctx: click.Context, why: str) -> int:
    """Tell in one line why nothing is done. Returns the exit status."""
    return output.refuse(ctx, ReaperError(why), [f"reaper: {why}"], exit_codes.USAGE)


def action_of(source: SourceSettings, action: str) -> str:
    """The same action. Raises UsageError, with the nearest one, when the source's profile has none of that name."""
    choices = source.profile.action_names
    if action not in choices:
        raise click.UsageError(
            f"Profile {source.profile.name!r} has no action {action!r}{did_you_mean(action, choices)}"
        )
    return action
