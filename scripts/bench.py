"""Measures what the reaper promises about its speed and size, on a PostgreSQL of its own. See --help."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click
from benchmark import daemon, flooding, helping, idling, reaping, weighing
from benchmark.figures import Figure, Invalid, Measure, shown
from benchmark.machine import machine, server_settings, versions
from benchmark.scene import LOADING
from benchmark.sizes import PRESETS, Sizes
from rich import box
from rich.console import Console
from rich.table import Table

from reaper.dev.postgres import temporary
from reaper.errors import ReaperError

VERSION = 1
MEASURES: dict[str, Measure] = {
    "help": helping.measure,
    "daemon": daemon.measure,
    "memory": weighing.measure,
    "reap": reaping.measure,
    "idle": idling.measure,
    "flood": flooding.measure,
}
_OK = {True: "yes", False: "NO", None: ""}


def _sized(command: click.Command) -> click.Command:
    """An option for each size."""
    for size in fields(Sizes):
        least, what = size.metadata["least"], size.metadata["help"]
        option = click.Option(
            [f"--{size.name.replace('_', '-')}"],
            type=click.IntRange(min=least),
            metavar="N",
            help=f"{what} [{', '.join(f'{name}: {getattr(preset, size.name):,}' for name, preset in PRESETS.items())}]",
        )
        command.params.append(option)
    return command


@_sized
@click.command()
@click.argument("measures", nargs=-1, type=click.Choice(list(MEASURES)), metavar="[MEASURE]...")
@click.option("--quick", "preset", flag_value="quick", help="Small sizes, half a minute: that it runs, not how fast.")
@click.option(
    "--full", "preset", flag_value="full", help="The sizes that the bounds are meant for: a quarter of an hour."
)
@click.option("--check", is_flag=True, help="Exit with status 1 when a bound does not hold.")
@click.option("--json", "document", type=click.Path(path_type=Path, dir_okay=False), help="Write every figure there.")
def main(measures: Sequence[str], preset: str | None, check: bool, document: Path | None, **given: int | None) -> None:
    """Measure what the reaper promises about its speed and size, and print a table of it.

    MEASURE is one of help, daemon, memory, reap, idle and flood; without any, all are made. Each makes its databases on
    a PostgreSQL of its own, durable as by default, below $TMPDIR: put that on a real disk. Ratios are medians over
    rounds in which the ways compared take turns. A bound is judged at its own size or above.
    """
    name = preset or "default"
    sizes = replace(PRESETS[name], **{size: count for size, count in given.items() if count is not None})
    try:
        found = _measure(measures or list(MEASURES), sizes)
    except (Invalid, ReaperError) as error:
        raise click.ClickException(str(error)) from None
    figures = found.pop("figures")
    if document:
        whole = {"version": VERSION, "preset": name, "sizes": asdict(sizes), **found}
        whole["figures"] = [{**asdict(figure), "ok": figure.ok} for figure in figures]
        document.write_text(json.dumps(whole, indent=2) + "\n")
    _show(figures, found)
    sys.exit(1 if check and any(figure.ok is False for figure in figures) else 0)


def _measure(measures: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """The machine, the raw figures of each measure, and the lines of the table."""
    figures: list[Figure] = []
    raw: dict[str, Any] = {}
    about = {"machine": machine(), "server_settings": dict(server_settings())}
    with temporary(LOADING) as server:
        about["versions"] = versions(server)
        for name in measures:
            click.echo(f"{name} ...", err=True)
            measured = MEASURES[name](server, sizes)
            figures += measured.figures
            raw[name] = {**measured.raw, "load_average_after": os.getloadavg()[0]}
    return {**about, "measures": raw, "figures": figures}


def _show(figures: Sequence[Figure], found: dict[str, Any]) -> None:
    """A table that reads on a terminal, and as Markdown."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=box.MARKDOWN)
    for column in ("what", "measured", "bound", "ok?"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        bound = "" if figure.bound is None else f"≤ {shown(figure.bound, figure.unit)}"
        ok = _OK[figure.ok] if figure.at_size else "too small to say"
        table.add_row(figure.what, figure.measured, bound, ok, style="red" if figure.ok is False else None)
    console.print(table)
    on, by = found["machine"], found["versions"]
    loads = [on["load_average"][0], *(raw["load_average_after"] for raw in found["measures"].values())]
    console.print(
        f"{on['cpu']}, {on['cores']} cores, {on['memory_mib'] / 1024:.0f} GiB; PostgreSQL {by['postgresql']}, "
        f"Python {by['python']}; load {min(loads):.1f} to {max(loads):.1f}"
    )


if __name__ == "__main__":
    main()
