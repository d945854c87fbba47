"""Where the files stand that a host needs beside the program: in a wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

import reaper

_PACKAGE = Path(reaper.__file__).parent


def shipped_root() -> Path:
    """The folder in which the shipped files have the paths that they have in a checkout."""
    packed = _PACKAGE / "files"
    # An editable installation runs from the checkout, where the same files stand at the top.
    return packed if packed.is_dir() else _PACKAGE.parent
