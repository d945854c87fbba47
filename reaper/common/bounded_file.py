"""Reads a small file that a setting or a person names: no more than 1 MiB of it, and for no longer than 5 s.

Such a path may lead to anything: to `/dev/zero`, to a pipe into which nothing is written, to a log. Pipes and
descriptors (`--config <(sops -d reaper.toml)`) are read like files. Limitation: the time limit does not hold for a
network file system that has stopped answering, since the kernel does not interrupt such a read.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 1 << 20
MAX_SECONDS = 5.0
_CHUNK_BYTES = 1 << 16


class UnreadableFile(ValueError):
    """The file cannot be read; the message says why, without the path."""


class BoundedFile(NamedTuple):
    """What a file contained, and its type and permissions (`st_mode`) when it was opened."""

    content: bytes
    mode: int


def read_bounded(path: Path) -> BoundedFile:
    """Raises UnreadableFile for a file that cannot be read, that is too large, or that does not end in time."""
    deadline = time.monotonic() + MAX_SECONDS
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            return BoundedFile(_read(descriptor, deadline), os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from None
    except UnreadableFile:
        raise
    except ValueError as error:  # a path with a zero byte
        raise UnreadableFile(str(error)) from None


def _read(descriptor: int, deadline: float) -> bytes:
    content = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(content) <= MAX_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise UnreadableFile(f"its end did not come within {MAX_SECONDS:g} s")
        try:
            part = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:  # another reader of the same pipe was faster
            continue
        if not part:
            return bytes(content)
        content += part
    raise UnreadableFile(f"it is larger than {MAX_BYTES >> 20} MiB")
