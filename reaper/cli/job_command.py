"""A command with a JOB says how a key is given that looks like an option."""

from __future__ import annotations

import shlex

import click

from reaper.common.terminal import shown


class JobCommand(click.Command):
    """Raises UsageError with that hint for an option that does not exist."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            key = next((text for text in given if text.startswith(error.option_name)), error.option_name)
            hint = f"A job's key that begins with - comes last, after --: {ctx.command_path} -- {shlex.quote(key)}"
            raise click.UsageError(shown(f"{error.format_message()} {hint}"), ctx) from None
