"""A group of commands that suggests the nearest name for a command that does not exist."""

from __future__ import annotations

import click


class CommandGroup(click.Group):
    """Raises UsageError with a suggestion for an unknown command name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            from reaper.common.suggestions import did_you_mean

            raise click.UsageError(f"There is no command {args[0]!r}{did_you_mean(args[0], names)}", ctx)
        return super().resolve_command(ctx, args)
