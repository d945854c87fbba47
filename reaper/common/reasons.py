"""A reason in an operator's words: one line, for it is written to the job's error message, to logs, to terminals."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 500
EXPECTED = "expected a reason in words, on one line and without control characters"
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_NONE_OF = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
)
PATTERN = rf"^[^{_NONE_OF}]*[^{_NONE_OF}\s][^{_NONE_OF}]*$"
"""The same rule for programs, as far as JSON Schema can say it."""


def is_reason(text: str) -> bool:
    """Whether a text is words on one line: no control characters, no marks that change the writing's direction."""
    return bool(text.strip()) and not any(unicodedata.category(character) in _UNPRINTABLE for character in text)
