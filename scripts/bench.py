"""Benchmark of the reaper: checks its promised bounds on speed and memory, on a private PostgreSQL. See --help."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click
from benchmark import daemon, flood, idle, memory, reap, startup, survey
from benchmark.environment import describe_machine, server_settings, versions
from benchmark.fixtures import LOADING
from benchmark.report import Figure, InvalidMeasurement, Measure, format_value
from benchmark.sizes import PRESETS, Sizes
from rich import box
from rich.console import Console
from rich.table import Table

from reaper.dev.postgres import temporary
from reaper.errors import ReaperError

VERSION = 1
MEASURES: dict[str, Measure] = {
    "help": startup.measure,
    "daemon": daemon.measure,
    "memory": memory.measure,
    "reap": reap.measure,
    "idle": idle.measure,
    "survey": survey.measure,
    "flood": flood.measure,
}
_OK = {True: "yes", False: "NO", None: ""}


def _sized(command: click.Command) -> click.Command:
    """Add one command-line option for each field of Sizes."""
    for size in fields(Sizes):
        minimum, description = size.metadata["minimum"], size.metadata["help"]
        values = ", ".join(f"{name}: {getattr(preset, size.name):,}" for name, preset in PRESETS.items())
        option = click.Option(
            [f"--{size.name.replace('_', '-')}"],
            type=click.IntRange(min=minimum),
            metavar="N",
            help=f"{description} [{values}]",
        )
        command.params.append(option)
    return command


@_sized
@click.command()
@click.argument("measures", nargs=-1, type=click.Choice(list(MEASURES)), metavar="[MEASURE]...")
@click.option(
    "--quick",
    "preset",
    flag_value="quick",
    help="Small sizes, half a minute. Shows that the benchmark works; the numbers mean little.",
)
@click.option(
    "--full", "preset", flag_value="full", help="The sizes for which the bounds are defined. A quarter of an hour."
)
@click.option("--check", is_flag=True, help="Exit with status 1 when a bound does not hold.")
@click.option(
    "--json",
    "document",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all figures and raw values to this file.",
)
def main(
    measures: Sequence[str], preset: str | None, check: bool, document: Path | None, **overrides: int | None
) -> None:
    """Measure the speed and memory use that the reaper promises, and print a table.

    MEASURE is one of help, daemon, memory, reap, idle, survey and flood; the default is all of them. The databases are
    on a private PostgreSQL with default durability, below $TMPDIR: put that on a real disk. Ratios are medians over
    rounds; within a round the variants run one after the other. A bound is checked only at its own size or above.
    """
    name = preset or "default"
    sizes = replace(PRESETS[name], **{size: count for size, count in overrides.items() if count is not None})
    try:
        results = _measure(measures or list(MEASURES), sizes)
    except (InvalidMeasurement, ReaperError) as error:
        raise click.ClickException(str(error)) from None
    figures = results.pop("figures")
    if document:
        report = {"version": VERSION, "preset": name, "sizes": asdict(sizes), **results}
        report["figures"] = [{**asdict(figure), "ok": figure.ok} for figure in figures]
        document.write_text(json.dumps(report, indent=2) + "\n")
    _print_table(figures, results)
    sys.exit(1 if check and any(figure.ok is False for figure in figures) else 0)


def _measure(measures: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """The machine, versions and settings; the raw values of each measure; the figures of the table."""
    figures: list[Figure] = []
    raw: dict[str, Any] = {}
    environment = {"machine": describe_machine(), "server_settings": dict(server_settings())}
    with temporary(LOADING) as server:
        environment["versions"] = versions(server)
        for name in measures:
            click.echo(f"{name} ...", err=True)
            measured = MEASURES[name](server, sizes)
            figures += measured.figures
            raw[name] = {**measured.raw, "load_average_after": os.getloadavg()[0]}
    return {**environment, "measures": raw, "figures": figures}


def _print_table(figures: Sequence[Figure], results: dict[str, Any]) -> None:
    """Print a table that is readable on a terminal and is valid Markdown."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=box.MARKDOWN)
    for column in ("what", "measured", "bound", "ok?"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        bound = "" if figure.bound is None else f"≤ {format_value(figure.bound, figure.unit)}"
        ok = _OK[figure.ok] if figure.at_size else "too small to say"
        table.add_row(figure.what, figure.measured, bound, ok, style="red" if figure.ok is False else None)
    console.print(table)
    host, versions_used = results["machine"], results["versions"]
    loads = [host["load_average"][0], *(raw["load_average_after"] for raw in results["measures"].values())]
    console.print(
        f"{host['cpu']}, {host['cores']} cores, {host['memory_mib'] / 1024:.0f} GiB; "
        f"PostgreSQL {versions_used['postgresql']}, Python {versions_used['python']}; "
        f"load {min(loads):.1f} to {max(loads):.1f}"
    )


if __name__ == "__main__":
    main()
