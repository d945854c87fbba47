"""The command `reaper`: its subcommands by name, and what their errors become.

A subcommand's module is imported when it runs, so that `reaper --help` is fast.
"""

from __future__ import annotations

import errno
import io
import sys
from importlib import import_module
from typing import Any

import click

from reaper import __version__
from reaper.cli import exit_codes, output
from reaper.cli.command_group import CommandGroup
from reaper.common.terminal import say

COMMANDS = {
    "run": "Run the daemon: sweep every source on schedule.",
    "sweep": "Sweep once, now.",
    "report": "Show the running jobs with their verdicts.",
    "explain": "Show why one job is stale or not.",
    "fail": "End one running job by hand.",
    "hold": "Keep one job from being ended for a while.",
    "unhold": "Take the hold on a job back.",
    "holds": "List the jobs that are held.",
    "cleanup": "Cancel executions that are old and silent.",
    "clear": "Show stale jobs, ask, and end them.",
    "purge": "Delete jobs that finished long ago.",
    "close-interrupted": "Close jobs that a restart of their server interrupted.",
    "reset": "Emergency: end every running job, and remove its task.",
    "fence": "Keep a late worker from overwriting a reaped job.",
    "state": "Show the state of the daemon's supervisor.",
    "halt": "Halt the daemon: it ends no jobs until `reaper restart`.",
    "restart": "Restart the daemon's supervisor after a halt.",
    "init": "Look at a database, and write a configuration for it.",
    "check": "Check databases, profiles and privileges.",
    "grants": "Print the least privileges that a role needs, as SQL.",
    "config": "Show or check the configuration.",
    "diff": "Show which jobs a new configuration judges differently.",
    "files": "Write alert rules, unit files and other files for a host.",
    "runbook": "Show what to do for an alert or a symptom.",
    "sql": "Print the statements that the reaper runs.",
    "demo": "Run a one-minute demonstration on a private database.",
}

_FORMER = {
    "resume": "There is no command 'resume' any more, and nothing was done. `reaper restart` goes on after a halt; "
    "`reaper close-interrupted` closes jobs that a restart of their server interrupted.",
}
"""Former commands, and what they could mean. They do nothing, so that an old unit file does nothing by mistake."""

_EPILOG = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 what was asked about needs attention "
    "(report --exit-code: stale jobs; state: not running; diff: jobs are judged differently), "
    "75 a database or the daemon is away, 78 wrong configuration, 130 interrupted."
)


class Commands(CommandGroup):
    """Lists names and one-line helps without importing a subcommand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"reaper.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _FORMER:
            raise click.UsageError(_FORMER[args[0]], ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. Its return value is the exit status; an error becomes lines on stderr and a status."""
        from reaper.errors import ConfigError, DatabaseUnavailable, ReaperError

        try:
            code = super().invoke(ctx)
        except KeyboardInterrupt:
            code = exit_codes.INTERRUPTED
        except click.Abort:  # Ctrl-C or Ctrl-D at a question; no question is asked once changes have begun
            click.echo(err=True)  # ends the line of the question
            message = "interrupted: nothing was changed"
            code = output.report_error(ctx, ReaperError(message), [f"reaper: {message}"], exit_codes.INTERRUPTED)
        except ConfigError as error:
            code = output.report_error(ctx, error, error.problems, exit_codes.CONFIGURATION)
        except DatabaseUnavailable as error:
            code = output.report_error(ctx, error, [f"reaper: {error}"], exit_codes.AWAY)
        except ReaperError as error:
            code = output.report_error(ctx, error, [f"reaper: {error}"], exit_codes.FAILED)
        except OSError as error:
            if error.errno != errno.EPIPE:
                say(f"reaper: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
            # click handles EPIPE silently, including what stdout still has to flush, and exits with status 1.
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
    """End jobs that claim to be running and are not.

    A job is stale when it has been running for longer than its timeout and has shown no sign of life for longer than
    its stall window. Databases and thresholds come from REAPER_* variables and the configuration file. To try it
    without a database, run: reaper demo
    """
    ctx.obj = config


def main() -> None:
    """The console script. Ends the process with a status of `exit_codes`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the terminal or pipe cannot encode are escaped; the command does not fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="reaper")
