"""Who runs a command, whether a question can be asked, and refusals of what was typed."""

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


def operator_name() -> str:
    """USER@HOST: the login name, also behind sudo; without a terminal, the owner of the process."""
    try:
        name = os.getlogin()
    except OSError:  # no terminal
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def ended_by(command: str) -> str:
    """Who ends jobs with this command, for the daemon's history."""
    return f"{operator_name()} with reaper {command}"


def is_interactive() -> bool:
    """Whether standard input is a terminal, so that a question can be asked."""
    return sys.stdin.isatty()


def can_ask(*, as_json: bool) -> bool:
    """Whether a person can answer: a script that reads the JSON gets no question, although it runs on a terminal."""
    return is_interactive() and (not as_json or sys.stdout.isatty())


def not_asked(to_do: str, *, dry_run: bool = True) -> str:
    """Why a command that asks before it changes something does nothing where it cannot ask, and what passes."""
    look = ", or --dry-run to look" if dry_run else ""
    return f"standard input is not a terminal: use --yes to {to_do} without a question{look}"


def refuse_usage(ctx: click.Context, why: str) -> int:
    """Print in one line why nothing is done. Returns exit status 2."""
    return output.report_error(ctx, ReaperError(why), [f"reaper: {why}"], exit_codes.USAGE)


def require_action(source: SourceSettings, action: str) -> str:
    """Returns `action`. Raises UsageError with a suggestion when the source's profile has no such action."""
    choices = source.profile.action_names
    if action not in choices:
        raise click.UsageError(
            f"Profile {source.profile.name!r} has no action {action!r}{did_you_mean(action, choices)}"
        )
    return action
