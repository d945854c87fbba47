"""Writes docs/reference/documents.md from the statements in documents.toml.

documents_page.py           write the page
documents_page.py --check   fail when the page is not current

documents.toml says what holds of each statement and which tests show it. A number that is missing, a mark without its
reason, and a test that does not exist make this script fail.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pages import PROJECT, REFERENCE, cell, table, write_or_check

PAGE = REFERENCE / "documents.md"
TEXTS = Path(__file__).with_name("documents.toml")

_HEAD = """\
# What the documents say, and where it is

<!-- Made by scripts/documents_page.py from scripts/documents.toml: change that, and run the script again. -->

Four systems describe how they find and end their stuck jobs: NoETL, PROTEA, adhese and vuls. An operator who knows one
of these manuals finds its commands, addresses, variables and messages here. Each row is one statement of a manual, or
of the outline that this project began with; it says what holds of it in the reaper, and which tests show that.

| what holds | meaning |
|---|---|
| as written | the reaper does what the document says |
| better | the reaper does something else, which serves the purpose of the document better |
| equal | the reaper does the same in another way |
| the host's own | it is done by the job system or the host, not by the reaper |
| not tried | no test can try it; the row says why |

A test is named by what it shows. The name of its function is `test_`, then these words with `_` between them.
"""
_MARKS = {
    "as written": "as written",
    "better": "better",
    "equal": "equal",
    "host": "the host's own",
    "not tried": "not tried",
}
"""The marks in documents.toml, and on the page. There is none for what is worse or missing."""
_NEEDS_NOTE = ("better", "equal", "not tried")
_NEEDS_NO_TEST = ("host", "not tried")
_KEYS = {"says", "holds", "note", "tests"}


@dataclass(frozen=True)
class Document:
    """One document. The numbers of its statements are its letter, and 1 up to `statements`."""

    letter: str
    title: str
    text: str
    statements: int

    @property
    def numbers(self) -> list[str]:
        return [f"{self.letter}{n}" for n in range(1, self.statements + 1)]


@dataclass(frozen=True)
class Statement:
    """What a document says. `tests` are node IDs of pytest without parameters."""

    number: str
    says: str
    holds: str
    note: str = ""
    tests: tuple[str, ...] = ()


def read() -> tuple[list[Document], list[Statement]]:
    """The documents and the statements, as they stand in documents.toml. Raises ValueError for an unknown key."""
    data = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    documents = [Document(letter, **parts) for letter, parts in data["documents"].items()]
    for number, parts in data["statements"].items():
        if unknown := parts.keys() - _KEYS:
            raise ValueError(f"{number}: unknown key {', '.join(sorted(unknown))}; expected {', '.join(sorted(_KEYS))}")
    statements = [
        Statement(number, **{**parts, "tests": tuple(parts.get("tests", ()))})
        for number, parts in data["statements"].items()
    ]
    return documents, statements


def problems(documents: Sequence[Document], statements: Sequence[Statement]) -> list[str]:
    """What is wrong, as messages."""
    expected = [number for document in documents for number in document.numbers]
    found = [statement.number for statement in statements]
    wrong = [f"{number}: missing" for number in expected if number not in found]
    wrong += [f"{number}: no document has a statement of this number" for number in found if number not in expected]
    return wrong + [problem for statement in statements for problem in _problems_of(statement)]


def _problems_of(statement: Statement) -> Iterator[str]:
    number, holds = statement.number, statement.holds
    if holds not in _MARKS:
        yield f"{number}: holds = {holds!r}, expected one of: {', '.join(_MARKS)}"
    if holds in _NEEDS_NOTE and not statement.note:
        yield f"{number}: {holds}, and no note says how or why"
    if holds not in _NEEDS_NO_TEST and not statement.tests:
        yield f"{number}: {holds}, and no test shows it"
    yield from (f"{number}: {test} is named twice" for test, times in Counter(statement.tests).items() if times > 1)
    for test in statement.tests:
        file, _, name = test.partition("::")
        if name not in _tests_in(file):
            yield f"{number}: there is no test {test}"


@cache
def _tests_in(file: str) -> frozenset[str]:
    """The test functions of a file, by its path in the project; none where pytest would not look."""
    path = PROJECT / file
    if not (file.startswith("tests/") and path.name.startswith("test_") and path.is_file()):
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    body += [node for test in body if isinstance(test, ast.ClassDef) for node in test.body]
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def page() -> str:
    """The whole document. Raises ValueError when documents.toml is wrong."""
    documents, statements = read()
    if wrong := problems(documents, statements):
        raise ValueError("\n".join(wrong))
    by_number = {statement.number: statement for statement in statements}
    parts = [_HEAD, _summary(documents, by_number)]
    for document in documents:
        rows = [_row(by_number[number]) for number in document.numbers]
        header = ("number", "the document says", "what holds", "shown by")
        parts.append(f"## {document.title}\n\n{document.text}\n\n{table(header, rows)}")
    return "\n".join(parts)


def _summary(documents: Sequence[Document], by_number: Mapping[str, Statement]) -> str:
    counts = {document: Counter(by_number[number].holds for number in document.numbers) for document in documents}
    rows = [
        [document.title, str(document.statements), *(str(count[mark]) for mark in _MARKS)]
        for document, count in counts.items()
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(["all", str(total.total()), *(str(total[mark]) for mark in _MARKS)])
    return table(("document", "statements", *_MARKS.values()), rows)


def _row(statement: Statement) -> list[str]:
    mark = _MARKS[statement.holds]
    holds = f"{mark}. {statement.note}" if statement.note else mark
    tests = ";<br>".join(_link(test) for test in statement.tests)
    return [statement.number, cell(statement.says), cell(holds), tests]


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../../{file})"


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "documents_page.py"))
