"""The keys of a batch as parameters of a statement: a list of texts for each key column, and a list of whole keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.types import NullType, TypeDecorator, UserDefinedType

from reaper.model import Key

KEY_COLUMN_VALUES, WHOLE_KEYS = "any_{}", "any_key"


class UntypedArray(TypeDecorator[Any]):
    """Texts as an array in PostgreSQL's own notation, without a type: the server takes that of the column compared."""

    impl = NullType
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return "{" + ",".join([_quoted(text) for text in value]) + "}"


class ValueList(UserDefinedType[Any]):
    """A list of values in brackets. `reaper.sql.statement` makes a parameter of each: MariaDB has no arrays."""

    cache_ok = True


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def key_parameters(keys: Iterable[Key]) -> dict[str, object]:
    """The values of the parameters of `reaper.sql.expressions.key_in_batch`."""
    whole_keys = list(keys)
    columns = {KEY_COLUMN_VALUES.format(n): list(texts) for n, texts in enumerate(zip(*whole_keys, strict=True))}
    return {**columns, WHOLE_KEYS: whole_keys}
