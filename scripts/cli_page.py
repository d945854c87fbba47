"""Writes docs/reference/cli.md from the commands' own help and the table of exit statuses.

cli_page.py           write the page
cli_page.py --check   fail when the page is not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import click
from pages import REFERENCE, table, write_or_check

from reaper.cli import exit_codes
from reaper.cli.main import cli

PAGE = REFERENCE / "cli.md"
NEVER = "no"

_HEAD = """\
# Commands

<!-- Made by scripts/cli_page.py from the commands' own help: change that, and run the script again. -->

Every text below is what `reaper COMMAND --help` prints. Where the settings come from is in
[Settings](settings.md).

Every command that prints data takes `--json`: it then prints one JSON document on standard output, and everything
else on standard error.

## Exit status

A status means the same whichever command ends with it. `scripts/test.sh` has only 0 and 1. What systemd itself reports
of the service is in `systemd.exec(5)`.

"""

STATUSES: Mapping[int, tuple[str, str, str]] = {
    exit_codes.DONE: ("", "also of `status` when all that should run works, or is halted", ""),
    exit_codes.FAILED: (
        "something was refused, or a check found an error",
        "the daemon or PostgreSQL does not start or stop, a file may not be read or written, or a log is empty",
        "nothing was changed, or the program of before is restored",
    ),
    exit_codes.USAGE: ("", "", ""),
    exit_codes.ATTENTION: (
        "`report --exit-code`: there are stale jobs. `state`: sweeps are halted, or their schedule has died",
        "`status`: the daemon or its private PostgreSQL does not run, or the daemon cannot do its work",
        NEVER,
    ),
    exit_codes.AWAY: ("", NEVER, NEVER),
    exit_codes.CONFIGURATION: ("", "`start`, `restart`, `status`", NEVER),
    129: ("all but `run`, which reads its configuration again", "", ""),
    exit_codes.INTERRUPTED: ("all but `run`, which stops and has 0", "", ""),
    143: ("all but `run`, which stops and has 0", "", ""),
}
"""When `reaper`, `scripts/manage.sh` and `scripts/install.sh` end with a status, where its meaning does not say it."""


def exit_statuses() -> str:
    """The table of exit statuses."""
    programs = ("`reaper`", "`scripts/manage.sh`", "`scripts/install.sh`")
    rows = (
        [str(status), exit_codes.MEANINGS[status], *(text or "yes" for text in STATUSES[status])] for status in STATUSES
    )
    return table(["status", "meaning", *programs], rows)


def commands(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command with its full name, in the order of the help."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            inside = click.Context(command, parent=context, info_name=name)
            yield from commands(command, inside, f"{path} {name}")


def help_of(command: click.Command, path: str) -> str:
    """What `--help` prints on a terminal of 80 columns."""
    parent: click.Context | None = None
    *outer, last = path.split()
    for name in outer:
        parent = click.Context(click.Group(name), parent=parent, info_name=name)
    names = ["-h", "--help"]
    context = click.Context(command, parent=parent, info_name=last, terminal_width=80, help_option_names=names)
    return command.get_help(context)


def page() -> str:
    """The whole document."""
    context = click.Context(cli, info_name="reaper")
    listed = [("reaper", cli), *commands(cli, context, "reaper")]
    return (
        _HEAD
        + exit_statuses()
        + "\n"
        + "\n".join(f"## {path}\n\n```text\n{help_of(command, path)}\n```\n" for path, command in listed)
    )


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "cli_page.py"))
