"""Parts of paths that Starlette cannot take as they are."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


class _Whole(PathConvertor):
    regex = "(?s:.*)"


register_url_convertor("whole", _Whole())


def whole(name: str) -> str:
    """A parameter of a path that takes whatever is there: a job's name may have slashes, and several lines."""
    return f"{{{name}:whole}}"
