"""Functions shared by the scripts that generate documentation pages."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
REFERENCE = DOCS / "reference"

_PLACEHOLDER = "https://github.com/job-reaper/job-reaper"


def repository() -> str:
    """The URL of the project, from pyproject.toml."""
    urls = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    names = ("Repository", "Source", "Homepage")
    return str(next((urls[name] for name in names if name in urls), _PLACEHOLDER)).rstrip("/")


def write_or_check(page: Path, text: str, script: str) -> int:
    """Write the page; with --check on the command line only compare it. Returns the exit status."""
    if "--check" not in sys.argv[1:]:
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page.name} is not current: run scripts/{script}", file=sys.stderr)
    return 1


def one_line(text: str) -> str:
    """The text on one line, with single blanks."""
    return " ".join(text.split())


def cell(text: str) -> str:
    """The text, escaped for a table cell."""
    return one_line(text).replace("|", "\\|")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- ", "|---").replace("|--- ", "|---")
