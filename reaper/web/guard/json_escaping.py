"""JSON answers without raw control characters: clients read the same values, and `curl` on a terminal does no harm."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.types import Message

_JSON = b"application/json"
# Below U+0020 JSON itself allows none. Lone surrogates cannot be in UTF-8.
_CONTROL = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def spelled_out(answer: Sequence[Message]) -> Sequence[Message]:
    """The answer, whose JSON spells out what is not printed (`\\u202e`): such characters are in its strings only."""
    if not answer:
        return answer
    start, *parts = answer
    headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() != b"content-length"]
    is_json = any(name.lower() == b"content-type" and value.startswith(_JSON) for name, value in headers)
    body = b"".join(part.get("body", b"") for part in parts)
    if not is_json or (body.isascii() and b"\x7f" not in body):
        return answer
    text = _CONTROL.sub(_escape, body.decode())
    body = text.encode()
    start = {**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
    return [start, {"type": "http.response.body", "body": body}]


def _escape(character: re.Match[str]) -> str:
    units = character[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))
