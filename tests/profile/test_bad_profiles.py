"""Wrong profiles: each problem is refused with its key, what was expected and the nearest name; all at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.errors import ConfigError
from reaper.profile import resolve
from reaper.profile.conditions import NOW, SCALAR
from reaper.profile.values import FORMS, LITERAL

_PYDANTIC = re.compile(r"Input should|should have|valid dictionary|Tuple|discriminator|Value error|\bzip\b|NoneType")


def cases() -> Iterator[tuple[str, str, list[str]]]:
    """Title, TOML and messages."""
    text = Path(__file__).with_name("bad_profiles.txt").read_text(encoding="utf-8")
    for case in text.split("\n=== ")[1:]:
        title, _, rest = case.partition("\n")
        written, _, messages = rest.partition("---\n")
        yield title, written, messages.strip("\n").splitlines()


CASES = list(cases())


def problems(written: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve("mine", {"mine": tomllib.loads(written)})
    return list(caught.value.problems)


@pytest.mark.parametrize(("written", "messages"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_profile_is_refused_with_exactly_these_words(written: str, messages: list[str]) -> None:
    assert messages
    assert problems(written) == [f"profile 'mine': {line}" for line in messages]


def test_wrong_profiles_are_at_least_40_and_all_different() -> None:
    assert len(CASES) >= 40
    assert len({title for title, _, _ in CASES}) == len({written for _, written, _ in CASES}) == len(CASES)


def test_messages_contain_no_words_of_pydantic() -> None:
    messages = "\n".join(line for _, _, lines in CASES for line in lines)
    assert not _PYDANTIC.search(messages)
    for tag in (*FORMS, LITERAL, NOW, SCALAR, "[key]"):
        assert tag not in messages
