"""Which numbers a column can hold, by the name of its type."""

from __future__ import annotations

import re

_BITS = {
    "tinyint": 8,
    "smallint": 16,
    "mediumint": 24,
    **dict.fromkeys(("int", "integer"), 32),
    "bigint": 64,
}
_DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+)(?:,(-?\d+))?\)")


def range_of(type_: str) -> tuple[float, float] | None:
    """The smallest and the largest number of a type as the server spells it; None where it has no such limit."""
    unsigned = type_.endswith(("unsigned", "unsigned zerofill"))
    if decimal := _DECIMAL.match(type_):
        digits, fraction = int(decimal[1]), int(decimal[2] or 0)
        largest = 10.0 ** (digits - fraction) - 10.0**-fraction
        return (0.0 if unsigned else -largest), largest
    bits = _BITS.get(re.split(r"[ (]", type_, maxsplit=1)[0])
    if bits is None:
        return None
    return (0.0, 2.0**bits - 1) if unsigned else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
