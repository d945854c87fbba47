"""The site of the documentation: `sphinx-build -W -n docs build/site`. It is built offline and loads nothing remote."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from pages import repository  # noqa: E402

from reaper import __version__  # noqa: E402

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "reaper"
release = version = __version__
html_title = f"reaper {release}"
language = "en"

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True

# Links to headings are written as on GitHub: [text](page.md#heading-in-lower-case). Each is checked.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": f"{repository()}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_meta = {"description": _PROJECT["description"]} if "description" in _PROJECT else {}
