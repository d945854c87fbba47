"""Headers that every answer bears, so that a browser lets no other site use or show it."""

from __future__ import annotations

from collections.abc import Iterable

_CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
NO_STORE = (b"cache-control", b"no-store")
_REPLACED = frozenset(name for name, _ in SECURITY_HEADERS)


def secured(headers: Iterable[tuple[bytes, bytes]], *, may_be_cached: bool) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with these added. Whatever the application said instead is dropped."""
    replaced = _REPLACED if may_be_cached else _REPLACED | {NO_STORE[0]}
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return [*kept, *SECURITY_HEADERS, *([] if may_be_cached else [NO_STORE])]
