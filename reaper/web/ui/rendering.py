"""Templates. Jinja is loaded, and templates are compiled, at the first request for a page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from reaper.web.ui.formatting import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> bytes:
    """Every value that the template prints is escaped."""
    return _environment().get_template(template).render(**values).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reaper.web.ui"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": visible, "sentence": _sentence}
    return environment


def _sentence(text: str) -> str:
    """With a capital letter first, and unchanged otherwise."""
    return text[:1].upper() + text[1:]
