"""The colours of the page: text and shapes have enough contrast (WCAG 2.2: 4.5 for text, 3 for shapes)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSS = Path("reaper/web/ui/static/page.css")


def _palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in (light, dark)]
    return {"light": found[0], "dark": {**found[0], **found[1]}}


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


TEXTS = [(ink, ground) for ink in ("ink", "muted", "accent", "stale", "spared", "ok", "hold", "still")
         for ground in ("bg", "panel", "raised")] + [
    (name, f"{name}-bg") for name in ("stale", "spared", "ok", "hold", "still")
] + [("ink", "stale-bg"), ("ink", "hold-bg"), ("accent-ink", "accent"), ("panel", "stale")]  # fmt: skip
SHAPES = [("edge", "panel"), ("column", "panel"), ("accent", "panel"), ("ink", "track"), ("stale", "track"),
          ("spared", "track")]  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_shapes_contrast_with_their_background(theme: str) -> None:
    palette = _palettes()[theme]
    for pairs, least in ((TEXTS, 4.5), (SHAPES, 3.0)):
        for one, other in pairs:
            assert _contrast(palette[one], palette[other]) >= least, (theme, one, other)
