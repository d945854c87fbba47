"""docs/reference/documents.md has every statement of the documents once, each with tests that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import documents_page
import pytest

STATEMENTS = {"n": 48, "p": 40, "a": 25, "v": 49, "c": 14}
"""How many statements each document has."""

CLEANUP = "tests/cli/test_cleanup.py::test_older_than_minutes_defaults_to_five"


def rows() -> list[list[str]]:
    """The cells of each row of a statement."""
    lines = documents_page.page().splitlines()
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines if re.match(r"\| [npavc]\d+ \|", line)]


def test_every_statement_stands_on_it_once() -> None:
    expected = [f"{letter}{n}" for letter, count in STATEMENTS.items() for n in range(1, count + 1)]
    assert len(expected) == 176
    assert [row[0] for row in rows()] == expected


def test_no_statement_is_worse_or_missing_and_one_that_was_not_tried_says_why() -> None:
    marks = {"as written", "better", "equal", "the host's own", "not tried"}
    for number, _, holds, *_ in rows():
        mark, _, note = holds.partition(". ")
        assert mark in marks, number
        assert note or mark in ("as written", "the host's own"), number


def test_statements_are_shown_by_tests_that_a_reader_can_find() -> None:
    documents, statements = documents_page.read()
    assert documents_page.problems(documents, statements) == []
    shown_by = {row[0]: row[3] if len(row) > 3 else "" for row in rows()}
    for statement in statements:
        links = re.findall(r"\[([^]]+)\]\(\.\./\.\./([^)]+)\)", shown_by[statement.number])
        assert [f"{file}::test_{words.replace(' ', '_')}" for words, file in links] == list(statement.tests)


def test_summary_counts_what_the_tables_have() -> None:
    [total] = re.findall(r"^\| all \| (.*) \|$", documents_page.page(), re.MULTILINE)
    marks = Counter(row[2].partition(". ")[0] for row in rows())
    expected = [marks[mark] for mark in ("as written", "better", "equal", "the host's own", "not tried")]
    assert [int(number) for number in total.split(" | ")] == [176, *expected]


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("[statements.n5]\n", "[statements.n49]\n", r"n5: missing\nn49: no document has a statement of this number"),
        ("[statements.n5]\n", "[statements.n4]\n", r"Cannot declare \('statements', 'n4'\) twice"),
        ('holds = "better"', 'holds = "worse"', "n3: holds = 'worse', expected one of: as written, better"),
        ("\nnote = ", "\nnotes = ", "n1: unknown key notes; expected holds, note, says, tests"),
        (f'tests = ["{CLEANUP}"]\n', "", "n5: as written, and no test shows it"),
        (f'"{CLEANUP}"', f'"{CLEANUP}s"', f"n5: there is no test {CLEANUP}s"),
        (f'"{CLEANUP}"', '"reaper/errors.py::ReaperError"', "n5: there is no test reaper/errors.py"),
        (f'"{CLEANUP}"', f'"{CLEANUP}", "{CLEANUP}"', f"n5: {CLEANUP} is named twice"),
    ],
)
def test_wrong_statements_make_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, problem: str
) -> None:
    file = tmp_path / "documents.toml"
    text = documents_page.TEXTS.read_text(encoding="utf-8")
    assert line in text
    file.write_text(text.replace(line, instead, 1), encoding="utf-8")
    monkeypatch.setattr(documents_page, "TEXTS", file)
    with pytest.raises(ValueError, match=problem):
        documents_page.page()


@pytest.mark.parametrize("holds", ["better", "equal", "not tried"])
def test_statement_that_differs_needs_a_note(holds: str) -> None:
    document = documents_page.Document("n", "A manual", "", 1)
    statement = documents_page.Statement("n1", "It is so.", holds, tests=(CLEANUP,))
    assert documents_page.problems([document], [statement]) == [f"n1: {holds}, and no note says how or why"]
