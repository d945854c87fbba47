"""Which database a source uses, and which broker, and where that was said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import SecretStr

from reaper.config.database_url import normalise_database_url
from reaper.config.layers import Layer, Stack
from reaper.config.schema import RawSettings, SourceTable
from reaper.config.secrets import Credentials, read_secret


@dataclass(frozen=True)
class FoundUrl:
    """A URL and where it was found; no URL when what stood there is wrong, which has been told."""

    url: SecretStr | None
    origin: str


@dataclass
class UrlLookup:
    """Finds each source's URL of one sort: `setting`. A secret's file is read only when it is the one that counts."""

    stack: Stack
    file: Layer
    credentials: Credentials
    problems: list[str]
    setting: str = "database_url"
    normal: Callable[[str], str] = normalise_database_url

    @cached_property
    def shared(self) -> FoundUrl | None:
        """What sources without a URL of their own use."""
        found = (self._given(layer, layer.given) for layer in self.stack.layers)
        return next((url for url in found if url is not None), None)

    def of(self, source: str, table: SourceTable) -> FoundUrl | None:
        """The source's own URL, else the shared one."""
        if (path := self.credentials.path(self.setting, source)) is not None:
            return self._read(path, f"credential {source}.{self.setting}")
        return self._given(self.file, table, "sources", source) or self.shared

    def said_twice(self) -> Iterator[str]:
        """A line for each place that gives a URL and a URL's file: nobody can tell which was meant."""
        for layer in self.stack.layers:
            yield from self._twice(layer, layer.given)
        for name, table in self.file.given.sources.items():
            yield from self._twice(self.file, table, "sources", name)

    def _twice(self, layer: Layer, table: RawSettings | SourceTable, *around: str) -> Iterator[str]:
        url, path = self._said(table)
        if url is not None and path is not None:
            other = layer.origin((*around, self._file_setting))
            yield layer.problem((*around, self.setting), f"{other} gives the URL too; keep one of the two")

    def _given(self, layer: Layer, table: RawSettings | SourceTable, *around: str) -> FoundUrl | None:
        if not layer.refused.isdisjoint({(*around, self.setting), (*around, self._file_setting)}):
            return FoundUrl(None, "refused")
        url, path = self._said(table)
        if url is not None:
            return FoundUrl(url, layer.origin((*around, self.setting)))
        if path is not None:
            return self._read(path, layer.origin((*around, self._file_setting)))
        return None

    @property
    def _file_setting(self) -> str:
        return f"{self.setting}_file"

    def _said(self, table: RawSettings | SourceTable) -> tuple[SecretStr | None, Path | None]:
        """The URL and the URL's file that stand in a table."""
        return getattr(table, self.setting), getattr(table, self._file_setting)

    def _read(self, path: Path, origin: str) -> FoundUrl:
        # A credential's name says it all; its path is the service manager's business.
        origin = origin if origin.startswith("credential ") else f"{origin} ({path})"
        try:
            return FoundUrl(SecretStr(self.normal(read_secret(path))), origin)
        except ValueError as error:
            self.problems.append(f"{origin}: {error}")
            return FoundUrl(None, origin)
