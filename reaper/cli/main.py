"""The commands by name. A command's module is imported when it runs, so that help is quick."""

from __future__ import annotations

import errno
import io
import sys
from importlib import import_module
from typing import Any

import click

from reaper import __version__
from reaper.cli import exit_codes, output
from reaper.common.terminal import say

COMMANDS = {
    "run": "Sweep every source on schedule until told to stop.",
    "sweep": "Sweep once, now.",
    "report": "Show the running jobs and what the rule says of each.",
    "explain": "Show everything that is known of one job.",
    "fail": "End one running job by hand.",
    "cleanup": "Cancel executions that are older than some minutes, and silent.",
    "clear": "Clear stuck jobs, and orphaned tasks when asked to.",
    "purge": "Delete what finished long ago.",
    "resume": "Close what was interrupted when its server went away.",
    "reset": "Emergency: end every running job of a source.",
    "fence": "Keep reaped jobs reaped when their old worker finishes late.",
    "state": "Show what the daemon's supervisor does.",
    "halt": "Have the daemon end nothing until it is restarted.",
    "restart": "Have the daemon's supervisor go on.",
    "check": "Examine the databases: everything that is wrong, at once.",
    "grants": "Print the least that a role needs, as SQL.",
    "config": "Show the configuration in force, or check it.",
    "files": "Write the alert rules, unit files and all else that a host needs.",
    "sql": "Print the statements that the reaper runs.",
    "demo": "Watch workers crash, hang and be reaped, in a minute.",
}

_EPILOG = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 stale jobs found (report --exit-code) or "
    "not running (state), 75 a database or the daemon is away, "
    "78 wrong configuration, 130 interrupted."
)


class Commands(click.Group):
    """Names and one-line helps are known without importing anything; an unknown name is told the nearest one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"reaper.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from reaper.common.suggestions import did_you_mean

            raise click.UsageError(f"There is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it returns is the exit status, and what it raises is told in plain lines."""
        from reaper.errors import ConfigError, DatabaseUnavailable, ReaperError

        try:
            code = super().invoke(ctx)
        except KeyboardInterrupt:
            code = exit_codes.INTERRUPTED
        except click.Abort:  # Ctrl-C or Ctrl-D instead of an answer; nobody is asked once changes have begun
            click.echo(err=True)  # the question's line is still open
            why = "interrupted: nothing was changed"
            code = output.refuse(ctx, ReaperError(why), [f"reaper: {why}"], exit_codes.INTERRUPTED)
        except ConfigError as error:
            code = output.refuse(ctx, error, error.problems, exit_codes.CONFIGURATION)
        except DatabaseUnavailable as error:
            code = output.refuse(ctx, error, [f"reaper: {error}"], exit_codes.AWAY)
        except ReaperError as error:
            code = output.refuse(ctx, error, [f"reaper: {error}"], exit_codes.FAILED)
        except OSError as error:
            if error.errno != errno.EPIPE:
                say(f"reaper: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
            # For this one click is quiet, also about what is still to be flushed, and exits with status 1.
            raise OSError(errno.EPIPE, error.strerror) from None
        ctx.exit(code)


@click.command(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    metavar="PATH",
    help="The configuration file. [default: config/reaper.toml, else /etc/reaper/reaper.toml]",
)
@click.version_option(__version__, "--version", message="reaper %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """Ends jobs that claim to be running and are not.

    A job is stale when it has been running for longer than its timeout and has shown no sign of life for longer than
    its stall window. Databases and thresholds come from REAPER_* variables and the configuration file. Without a
    database to try it on, run: reaper demo
    """
    ctx.obj = config


def main() -> None:
    """The console script. Ends the process with one of the statuses of `exits`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or a pipe that cannot show a character is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="reaper")
