"""The configuration file: which one is read, and on which line its keys are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reaper.config import file, load
from reaper.config.toml_lines import line_index
from tests.config.support import BROKER, URL, problem, write


def test_file_that_is_named_must_exist() -> None:
    assert problem({"REAPER_CONFIG": "no.toml"}) == "REAPER_CONFIG: cannot read no.toml: No such file or directory"
    assert problem({}, config=Path("no.toml")).startswith("--config: cannot read no.toml")
    assert problem({"REAPER_CONFIG": "config"}).startswith("REAPER_CONFIG: cannot read config")


def test_named_file_is_read_instead_of_the_usual_one() -> None:
    write("batch_size = 1")
    write("batch_size = 2", "other.toml")
    write("batch_size = 3", "flag.toml")
    assert load({}, {}).batch_size == 1
    settings = load({}, {"REAPER_CONFIG": "other.toml"})
    assert (settings.batch_size, settings.config_file) == (2, Path("other.toml"))
    assert settings.origins["config"] == "REAPER_CONFIG"
    assert load({"config": "flag.toml"}, {"REAPER_CONFIG": "other.toml"}).batch_size == 3


def test_system_wide_file_is_read_where_the_working_directory_has_none(working_directory: Path) -> None:
    (working_directory / "etc").mkdir()
    write("batch_size = 4", "etc/reaper.toml")
    assert load({}, {}).batch_size == 4
    write("batch_size = 5")
    assert load({}, {}).batch_size == 5


def test_unreadable_file_is_refused_and_not_skipped() -> None:
    Path("config/reaper.toml").symlink_to("gone.toml")
    assert problem() == "config/reaper.toml: cannot read config/reaper.toml: No such file or directory"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"a = 1\nb = \n", ":2: not valid TOML: "),
        (b"a = 1\na = 2", ":2: not valid TOML: "),
        (b'a = 1\nb = "x', ":2: not valid TOML: "),
        (b"a = 1\n\xff", ":2: not UTF-8 text"),
        (b"a = " + b"[" * 100_000, ": not valid TOML: "),
        (b"a = " + b"9" * 5000, ": not valid TOML: "),
    ],
)
def test_unparsable_file_is_refused_with_the_line(content: bytes, where: str) -> None:
    Path("config/reaper.toml").write_bytes(content)
    assert re.match(rf"config/reaper\.toml{re.escape(where)}", problem())


def test_file_may_have_windows_line_ends_and_a_byte_order_mark() -> None:
    Path("config/reaper.toml").write_bytes(b"\xef\xbb\xbfhttp_port = 1\r\nbatch_size = 0\r\n")
    assert problem().startswith("config/reaper.toml:2: batch_size: ")


def test_line_index_has_the_line_of_each_key_and_table() -> None:
    text = '''a = 1
# [x]
s = """
[not.a.table]
k = 1
"""
list = [
  1, # ]
  { x = 1 },
]

[ t . "u.v" ] # comment
k.l = { m = 1, "n" = 2 }
[[arr]]
x = 1
[[arr.sub]]
[[arr]]
[arr.inner]
y = 'a#b'
'''
    found = line_index(text)
    assert found == {
        ("a",): 1,
        ("s",): 3,
        ("list",): 7,
        ("list", "0"): 7,
        ("list", "1"): 7,
        ("list", "1", "x"): 7,
        ("t", "u.v"): 12,
        ("t", "u.v", "k"): 13,
        ("t", "u.v", "k", "l"): 13,
        ("t", "u.v", "k", "l", "m"): 13,
        ("t", "u.v", "k", "l", "n"): 13,
        ("arr", "0"): 14,
        ("arr", "0", "x"): 15,
        ("arr", "0", "sub", "0"): 16,
        ("arr", "1"): 17,
        ("arr", "1", "inner"): 18,
        ("arr", "1", "inner", "y"): 19,
    }


def test_file_that_was_read_hides_its_secrets_when_printed() -> None:
    write(f'broker_url = "{BROKER}"\n[sources.main]\ndatabase_url = "{URL}"\nbroker_url = "{BROKER}"')
    found = file.read(None, {}, [])
    assert found is not None
    assert "hunter2" not in repr(found)
    assert len(found.values) == 2
