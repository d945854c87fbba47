"""Consoles and tables of `rich`, set up for terminals and for pipes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reaper.common.terminal import shown

_UNBOUNDED = 10_000
WIDE_TERMINAL = 120
"""Columns from which on a table with sentences in it is readable."""
WORD_STYLES = {
    "stale": "red",
    "spared": "yellow",
    "young": "green",
    "ended": "dim",
    "error": "bold red",
    "warning": "yellow",
}


def make_console(*, stderr: bool = False) -> Console:
    """On a terminal rows are folded to its width; in a pipe each row is one line without escape sequences."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.no_color:
        # rich takes NO_COLOR for colours alone, and would still print bold: print no escape sequence at all.
        console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, color_system=None)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def print_table(console: Console, table: Table) -> None:
    """Print a table; in a pipe, without trailing blanks."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True)


def text_cell(text: str | None, style: str = "") -> Text:
    """A cell with control characters spelled out, in the style of its word where that has one."""
    return Text(shown(text or ""), WORD_STYLES.get(text or "", style))


def make_table(columns: Sequence[str], *, unfolded: Iterable[str] = (), right_aligned: Iterable[str] = ()) -> Table:
    """`unfolded` columns hold names that users copy; `right_aligned` columns hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(
            name,
            no_wrap=name in unfolded or name in right_aligned,
            overflow="fold",
            justify="right" if name in right_aligned else "left",
        )
    return table


def two_columns(rows: Iterable[tuple[str, str]]) -> Table:
    """A table without a header: a name and its value in each row."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(text_cell(name, "bold"), text_cell(value))
    return table
