"""Schemas that are made from dataclasses: what is renamed in one of the two is noticed when the API is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from reaper.web.api.schemas import Mirror, mirrors


@dataclass(frozen=True)
class Measured:
    name: str
    seconds: float
    secret: str


class Schema(Mirror):
    """What is shown."""

    id: str


def test_schema_has_the_fields_of_its_dataclass_but_those_left_out() -> None:
    made = mirrors(Measured, without=["secret"], infinite=["seconds"], after={"id": "name"})(Schema)
    assert list(made.model_fields) == ["name", "id", "seconds"]
    assert made.of(Measured("a", float("inf"), "x"), id="1").model_dump() == {"name": "a", "id": "1", "seconds": None}


@pytest.mark.parametrize(
    "options",
    [
        {"without": ["secrets"]},
        {"only": ["name", "secnds"]},
        {"infinite": ["secnds"]},
        {"described": {"nme": "Its name."}},
        {"after": {"id": "nme"}},
        {"after": {"ids": "name"}},
        # These options are for members that come from the dataclass.
        {"without": ["secret"], "described": {"secret": "A secret."}},
        {"infinite": ["id"]},
    ],
    ids=str,
)
def test_schema_refuses_names_that_do_not_exist(options: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"has no (secrets|secnds|nme|ids|secret|id)$"):
        mirrors(Measured, **options)(Schema)
