"""`[sources.NAME.purge]`: its values, its origins, and what is refused."""

from __future__ import annotations

import pytest

from reaper.config import load
from tests.config.support import BROKER, URL, problem, write


def purge(lines: str) -> str:
    """A source of a profile that says which jobs are finished."""
    above = f'broker_url = "{BROKER}"\nprofile = "vuls"'
    return f'{above}\n[sources.main]\ndatabase_url = "{URL}"\n[sources.main.purge]\n{lines}'


def test_purge_is_refused_where_the_profile_has_no_purge_part() -> None:
    write(f'[sources.main]\ndatabase_url = "{URL}"\nprofile = "adhese"\n[sources.main.purge]\ndays_to_keep = 3')
    assert problem() == (
        "config/reaper.toml:4: sources.main.purge: profile 'adhese' does not say which jobs are finished, "
        "so that none can be purged; remove this table, or give the profile a purge part"
    )


def test_purge_is_described_with_its_origins() -> None:
    write(purge('cron = "30 3 * * 0"\ndays_to_keep = 3650'))
    settings = load({}, {})
    rows = {name.removeprefix("sources.main.purge."): (value, origin) for name, value, origin in settings.described()}
    assert rows["cron"] == ("30 3 * * 0", "config/reaper.toml:6")
    assert rows["days_to_keep"] == ("3650", "config/reaper.toml:7")
    assert rows["batch_size"] == ("1000", "default")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((f"{n} = {v}", "expected a whole number from 1 to") for n in ("days_to_keep", "batch_size") for v in (0, -1)),
        ("days_to_keep = 3651", "expected a whole number from 1 to 3650"),
        ("batch_size = 100001", "expected a whole number from 1 to 100000"),
        ('days_to_keep = "30"', "expected a whole number"),
        ("batch_size = true", "expected a whole number"),
        ("cron = 3", "expected text, not 3"),
        ("days_to_kepp = 3", "unknown name; did you mean 'days_to_keep'?"),
        ("queues = []", "unknown name here; queues belongs in [sources.NAME], or above the first [section] for all"),
    ],
)
def test_wrong_purge_is_refused_with_its_line(line: str, expected: str) -> None:
    write(purge(line))
    assert problem().startswith(f"config/reaper.toml:6: sources.main.purge.{line.partition(' ')[0]}: {expected}")
