"""Keys of a batch as parameters: a list of texts for each key column, and one of whole keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.types import NullType, TypeDecorator

from reaper.model import Key

KEY_COLUMN_VALUES, WHOLE_KEYS = "any_{}", "any_key"


class Array(TypeDecorator[Any]):
    """Texts as an array in PostgreSQL's own notation, without a type: it takes that of what it is compared with."""

    impl = NullType
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return "{" + ",".join([_quoted(text) for text in value]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parameters(keys: Iterable[Key]) -> dict[str, object]:
    """The values for `KEY_COLUMN_VALUES` and `WHOLE_KEYS`."""
    whole = list(keys)
    return {
        **{KEY_COLUMN_VALUES.format(n): list(texts) for n, texts in enumerate(zip(*whole, strict=True))},
        WHOLE_KEYS: whole,
    }
