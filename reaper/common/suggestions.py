"""The nearest valid name for a wrong one, for every message that refuses a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(wrong: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like `wrong`, whatever its case, or None when nothing does."""
    by_fold = {name.casefold(): name for name in valid}
    found = get_close_matches(wrong.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or what there is to choose from when nothing is near (or nothing at all)."""
    names = sorted(valid)
    if (name := nearest(wrong, names)) is not None:
        return f"; did you mean {name!r}?"
    return f"; expected one of: {', '.join(names)}" if names else ""
