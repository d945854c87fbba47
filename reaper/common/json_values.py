"""The model's values as JSON: for documents, the API and the results of Celery tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def to_jsonable(value: Any) -> Any:
    """A value for `json.dumps`: dataclasses by field, a key of one column as a text, infinity and NaN as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _members({f.name: getattr(value, f.name) for f in fields(value)})
    if hasattr(value, "_asdict"):
        return _members(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _members(fields: Mapping[str, Any]) -> dict[str, Any]:
    # `remains`, the row as a transition left it, is for comparing with later states only.
    shown = {name: value for name, value in fields.items() if name != "state_after"}
    return {name: _key(value) if name == "key" else to_jsonable(value) for name, value in shown.items()}


def _key(key: tuple[str, ...]) -> str | list[str]:
    return key[0] if len(key) == 1 else list(key)
