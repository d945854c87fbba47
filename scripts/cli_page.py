"""Writes docs/reference/cli.md from the commands' own help.

cli_page.py           write the page
cli_page.py --check   fail when the page is not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from pages import REFERENCE, write_or_check

from reaper.cli.main import cli

PAGE = REFERENCE / "cli.md"

_HEAD = """\
# Commands

<!-- Made by scripts/cli_page.py from the commands' own help: change that, and run the script again. -->

Every text below is what `reaper COMMAND --help` prints. Where the settings come from is in
[Settings](settings.md).

Every command that prints data takes `--json`: it then prints one JSON document on standard output, and everything
else on standard error.

## Exit status

| status | meaning |
|---|---|
| 0 | done |
| 1 | failed: something was refused, or a check found an error |
| 2 | the command line is wrong |
| 3 | stale jobs were found (`report --exit-code`), or the daemon does not run its schedule (`state`) |
| 75 | a database or the daemon cannot be reached |
| 78 | the configuration is wrong |
| 130 | interrupted |

"""


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
    return _HEAD + "\n".join(f"## {path}\n\n```text\n{help_of(command, path)}\n```\n" for path, command in listed)


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "cli_page.py"))
