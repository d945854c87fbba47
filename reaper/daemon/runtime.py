"""Keeps the daemon small beside the jobs that it watches."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_ARENA_MAX = -8  # malloc.h
_UNUSED = (
    "rich",  # structlog loads it for tracebacks on a terminal; ours are plain
    "pydantic.v1",  # FastAPI loads it to tell that it is no longer supported
)


def keep_out() -> None:
    """Keep libraries from loading what is never used. To be called before they are imported.

    Each of them makes do without: an import of what is None here raises ImportError.
    """
    for name in _UNUSED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]


def share_heap() -> None:
    """Have all threads take their memory from one heap, where the C library can be told so.

    glibc gives each thread its own, up to eight for a processor, and what is free in one of them is of no use to
    another. They hardly ever want memory at the same moment here, for Python lets one of them work at a time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """What is in memory by now stays there: collections of garbage need not look at it again and again.

    A sweep that ends many jobs makes many objects; collecting among all that was imported, too, takes an eighth of the
    processor time that it needs here.
    """
    gc.collect()
    gc.freeze()
