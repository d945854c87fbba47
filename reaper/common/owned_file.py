"""Files that a command of root makes for the service, whose user must be able to write to them."""

from __future__ import annotations

import os
from pathlib import Path


def create_owned(path: Path, like: os.stat_result) -> None:
    """Create an empty file that its owner alone may read. Made by root, it belongs to the owner of what `like` is of.

    Raises FileExistsError.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, like.st_uid, like.st_gid)
    finally:
        os.close(descriptor)
