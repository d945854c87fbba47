"""Values into HTML. Jinja is loaded, and templates are compiled, when somebody looks for the first time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from reaper.web.ui.formatting import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> bytes:
    """Everything in `values` is escaped wherever it is put."""
    return _environment().get_template(template).render(**values).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("reaper.web.ui"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": visible, "sentence": _sentence}
    return made


def _sentence(told: str) -> str:
    """The same with a capital letter, and all else as it is."""
    return told[:1].upper() + told[1:]
