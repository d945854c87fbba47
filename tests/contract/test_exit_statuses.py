"""One table of exit statuses: it has all that commands and scripts end with, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_page import NEVER, STATUSES

from reaper.cli import exit_codes
from tests.support.commands import PROJECT

_SCRIPTS = {
    1: ("scripts/manage.sh", "scripts/manager/*.sh", "scripts/lib.sh"),
    2: ("scripts/install.sh", "scripts/installer/*.sh", "scripts/lib.sh"),
}
_GIVEN = re.compile(r"\b(?:die|exit) ([0-9]+)")
_BY_SIGNAL = {129, 130, 143}


def test_every_status_of_the_command_is_in_the_table() -> None:
    constants = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    in_table = {status for status, (reaper, _, _) in STATUSES.items() if reaper != NEVER}
    assert in_table == constants | _BY_SIGNAL
    assert STATUSES.keys() == exit_codes.MEANINGS.keys()
    recorded = (Path(__file__).parent / "exit_statuses.txt").read_text()
    assert {int(line.rpartition(": ")[2]) for line in recorded.splitlines()} <= in_table


@pytest.mark.parametrize("column", _SCRIPTS)
def test_every_status_of_a_script_is_in_the_table(column: int) -> None:
    text = "".join(path.read_text() for pattern in _SCRIPTS[column] for path in sorted(PROJECT.glob(pattern)))
    given = {int(number) for number in _GIVEN.findall(text)}
    if column == 1:
        # What `status` returns, it ends with.
        given |= {3} if "return 3" in text else set()
        given |= {exit_codes.CONFIGURATION} if "read_settings || exit" in text else set()
    in_table = {status for status, texts in STATUSES.items() if texts[column] != NEVER}
    assert in_table == given | {0} | _BY_SIGNAL


def test_no_two_statuses_have_one_meaning() -> None:
    assert len(set(exit_codes.MEANINGS.values())) == len(exit_codes.MEANINGS)
