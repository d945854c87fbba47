"""The nearest valid name for a wrong one, for messages that refuse a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(wrong: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most similar to `wrong`, ignoring case; None when no name is similar."""
    by_fold = {name.casefold(): name for name in valid}
    matches = get_close_matches(wrong.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[matches[0]] if matches else None


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?`, else `; expected one of: …` when no name is similar, else nothing when none is valid."""
    names = sorted(valid)
    if (name := nearest(wrong, names)) is not None:
        return f"; did you mean {name!r}?"
    return f"; expected one of: {', '.join(names)}" if names else ""
