"""Commands, arguments, options, their defaults, choices and variables; not the prose around them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tests.contract.conftest import Golden
from tests.contract.support import PROGRAM, Reaper, command_line, run

_STATED = re.compile(r"\[default: ([^]]+)\]")
_SIGNIFICANT = re.compile(r"[\w./-]*[\d_/][\w./-]*")
"""In a default that is stated in words: numbers, durations, paths and names of settings."""


def test_commands_keep_their_arguments_options_defaults_and_choices(golden: Golden) -> None:
    golden("commands.txt", (line for path, context in _commands() for line in _described(path, context)))


def test_help_of_every_command_shows_each_option_with_its_default(reaper: Reaper) -> None:
    for path, context in _commands():
        words = path.split()[1:]
        shown = reaper(*words, "--help", COLUMNS="100")
        assert shown.exit_code == 0, shown.output
        text = " ".join(shown.stdout.split())
        assert text.startswith(f"Usage: {path}"), text
        for option in context.command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                assert all(name in text for name in option.opts), (path, option.opts)
                assert not option.show_default or f"[default: {option.default}" in text, (path, option.opts)


def test_program_and_module_say_the_same_version(tmp_path: Path) -> None:
    installed = run(str(PROGRAM), "--version", folder=tmp_path)
    module = run(sys.executable, "-m", "reaper", "--version", folder=tmp_path)
    assert installed.stdout == module.stdout
    assert re.fullmatch(r"reaper \d+\.\d+\.\d+\S*\n", installed.stdout)


def _commands() -> Iterator[tuple[str, click.Context]]:
    """Every command and group, with what a user types for it."""

    def below(name: str, command: click.Command, above: click.Context | None) -> Iterator[tuple[str, click.Context]]:
        context = click.Context(command, above, info_name=name, **command.context_settings)
        yield context.command_path, context
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield from below(inner, found, context)

    return below("reaper", command_line(), None)


def _described(path: str, context: click.Context) -> Iterator[str]:
    kind = "group" if isinstance(context.command, click.Group) else "command"
    yield f"{path}: {kind}{', hidden' if context.command.hidden else ''}"
    for parameter in context.command.get_params(context):
        info = parameter.to_info_dict()
        name = ", ".join(sorted(parameter.opts + parameter.secondary_opts))
        if isinstance(parameter, click.Argument):
            name = f"argument {parameter.human_readable_name}"
        yield f"{path} {name}: {'; '.join(_facts(info))}"


def _facts(info: dict[str, Any]) -> Iterator[str]:
    flag = info.get("is_flag")
    yield "flag" if flag else info["type"]["name"]
    limits = ("choices", "min", "max", "min_open", "max_open")
    yield from (f"{key} {info['type'][key]}" for key in limits if info["type"].get(key) not in (None, False))
    if info["required"]:
        yield "required"
    if info["multiple"] or info["nargs"] != 1:
        yield f"multiple (nargs {info['nargs']})"
    if info["default"] not in (None, False):
        yield f"default {info['default']}"
    for stated in _STATED.findall(info.get("help") or ""):
        yield f"default stated: {', '.join(_SIGNIFICANT.findall(stated)) or 'in words'}"
    if info["envvar"]:
        yield f"variable {info['envvar']}"
    if info.get("hidden"):
        yield "hidden"
