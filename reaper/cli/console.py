"""The rich console and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reaper.common.terminal import shown

_UNBOUNDED = 10_000
ROOMY = 120
STYLES = {
    "stale": "red",
    "spared": "yellow",
    "young": "green",
    "ended": "dim",
    "error": "bold red",
    "warning": "yellow",
}


def make_console(*, stderr: bool = False) -> Console:
    """Rows are folded to a terminal's width; in a pipe each is one line, without any escape sequence."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.no_color:
        # NO_COLOR is about colours alone; whoever sets it is better served without any escape sequence.
        console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, color_system=None)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def put(console: Console, table: Table) -> None:
    """Print a table; in a pipe without the blanks at the ends of its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True)


def cell(text: str | None, style: str = "") -> Text:
    return Text(shown(text or ""), STYLES.get(text or "", style))


def make_table(columns: Sequence[str], *, whole: Iterable[str] = (), right: Iterable[str] = ()) -> Table:
    """`whole` columns are never folded: names to be copied. `right` ones hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(
            name,
            no_wrap=name in whole or name in right,
            overflow="fold",
            justify="right" if name in right else "left",
        )
    return table


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values side by side."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(cell(name, "bold"), cell(value))
    return table
