"""The keys of a batch as parameters of a statement: a list of texts for each key column, and a list of whole keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.types import NullType, TypeDecorator, UserDefinedType

from reaper.model import Key

KEY_COLUMN_VALUES, WHOLE_KEYS, STORED_KEYS = "any_{}", "any_key", "any_stored_key"


class UntypedArray(TypeDecorator[Any]):
    """Texts as an array in PostgreSQL's own notation, without a type: the server takes that of the column compared."""

    impl = NullType
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return "{" + ",".join([_quoted(text) for text in value]) + "}"


class ValueList(UserDefinedType[Any]):
    """A list of values in brackets. `reaper.sql.statement` makes a parameter of each: MariaDB has no arrays.

    `of_bytes` says which of the columns has bytes, whose texts are hexadecimal digits or UUIDs.
    """

    cache_ok = True

    def __init__(self, *of_bytes: bool) -> None:
        self.of_bytes = of_bytes

    def stored(self, texts: Sequence[Any]) -> Sequence[Any]:
        """The values as the columns store them."""
        if not any(self.of_bytes):
            return texts
        if len(self.of_bytes) == 1:
            return [_stored(text) for text in texts]
        return [
            tuple(_stored(part) if is_bytes else part for part, is_bytes in zip(key, self.of_bytes, strict=True))
            for key in texts
        ]


def bytes_of(text: str) -> bytes:
    """The bytes that are shown as this text."""
    return bytes.fromhex(text.replace("-", ""))


def _stored(text: str | None) -> bytes | None:
    """NULL equals nothing: a list of it stands for a batch without jobs."""
    return None if text is None else bytes_of(text)


def _quoted(text: str | None) -> str:
    """In a row that no key constraint keeps from it, a column of the key may be NULL, which equals nothing."""
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_whole(key: Iterable[str | None]) -> bool:
    """Whether a row can be found by the key, which none can that has NULL in it."""
    return None not in key


def key_parameters(keys: Iterable[Key]) -> dict[str, object]:
    """The values of the parameters of `reaper.sql.expressions.key_in_batch`."""
    whole_keys = list(keys)
    columns = {KEY_COLUMN_VALUES.format(n): list(texts) for n, texts in enumerate(zip(*whole_keys, strict=True))}
    return {**columns, WHOLE_KEYS: whole_keys, STORED_KEYS: whole_keys}
