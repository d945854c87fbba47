"""The page as it is read without a browser."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_HIDDEN = {"script", "style", "title", "desc", "option"}


class _Reader(HTMLParser):
    """What each element with an id says, and whether every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, str | None]] = []
        self.said: dict[str, list[str]] = {"": []}
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        named = dict(attrs)
        name = named.get("id") or named.get("aria-labelledby")
        if name:
            self.said.setdefault(name, [])
        if tag not in _VOID:
            self.open.append((tag, name))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] in _HIDDEN:
            return
        for name in {"", *(name for _, name in self.open if name)}:
            self.said[name].append(data)


class Page:
    """One answer of the daemon. Fails when it is no well-formed page."""

    def __init__(self, html: str) -> None:
        self.html, self._reader = html, _Reader()
        self._reader.feed(html)
        self._reader.close()
        assert not self._reader.open, f"never closed: {self._reader.open}"

    @property
    def text(self) -> str:
        return self.at("")

    def at(self, name: str) -> str:
        """What an element says, by its id or by that of its heading."""
        return re.sub(r"\s+", " ", "".join(self._reader.said.get(name, []))).strip()

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [value or "" for of, name, value in self._reader.attributes if name == attribute and tag in (None, of)]

    @property
    def attributes(self) -> list[tuple[str, str, str | None]]:
        """Tag, name and value of every attribute."""
        return self._reader.attributes

    @property
    def title(self) -> str:
        found = re.search(r"<title>(.*?)</title>", self.html, re.DOTALL)
        assert found is not None
        return unescape(found[1])

    @property
    def jobs(self) -> list[str]:
        """The ids of the jobs that are listed, in this order."""
        listed = re.search(r'<ol class="jobs">(.*?)</ol>', self.html, re.DOTALL)
        return re.findall(r'href="/jobs/[^/]+/([^"]+)"', listed[1]) if listed else []
