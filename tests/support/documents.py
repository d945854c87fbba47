"""The documents as tests read them: their code blocks, their headings and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import PROJECT

DOCS = PROJECT / "docs"
PAGES = (
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "systemd/README.md")),
    *sorted(DOCS.rglob("*.md")),
)
"""Every document that people read."""

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Each command of a shell block; a command over several lines, or with a here-document, counts as one."""
        return list(_commands(self.text))


def called(page: Path) -> str:
    """A page's path in the project."""
    return str(page.relative_to(PROJECT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages or of all, without what they are indented by."""
    found = []
    for indent, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        lines = (line.removeprefix(indent) for line in text.splitlines())
        found.append(Block(page, language, "\n".join(lines)))
    return [block for block in found if not languages or block.language in languages]


def typed(page: Path) -> list[str]:
    """The commands of a page's shell blocks, without comments, each once."""
    return list(dict.fromkeys(command for block in blocks(page, "sh") for command in block.commands))


def _commands(text: str) -> Iterator[str]:
    lines = iter(text.splitlines())
    for line in lines:
        whole = line
        while whole.endswith("\\"):
            whole = f"{whole}\n{next(lines)}"
        if here := re.search(r"<<'(\w+)'$", whole):
            for inner in lines:
                whole = f"{whole}\n{inner}"
                if inner == here[1]:
                    break
        else:
            whole = re.sub(r"(^|\s+)#.*$", "", whole)
        if whole.strip():
            yield whole.strip()


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have, on GitHub and on the site."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = base = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while slug in found:
            number += 1
            slug = f"{base}-{number}"
        found.add(slug)
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8")))
