"""Which database or broker URL a source uses, and where it was set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import SecretStr

from reaper.config.layers import Layer, LayerStack
from reaper.config.schema import RawSettings, SourceTable
from reaper.config.secret_files import Credentials, read_secret


@dataclass(frozen=True)
class ResolvedUrl:
    """A URL and where it was set. `url` is None where the value is wrong, which is among the problems.

    `borrowed`: the variable is that of another application, not a setting.
    """

    url: SecretStr | None
    origin: str
    borrowed: bool = False


@dataclass
class UrlLookup:
    """Finds the URL of each source for one setting: `database_url` or `broker_url`.

    A secret's file is read only where its URL is used. What is wrong is added to `problems`.
    """

    setting: str
    normalise: Callable[[str], str]
    stack: LayerStack
    file: Layer
    credentials: Credentials
    problems: list[str]

    @cached_property
    def shared(self) -> ResolvedUrl | None:
        """The URL of sources without one of their own."""
        urls = (self._in_table(layer, layer.settings) for layer in self.stack.layers)
        return next((url for url in urls if url is not None), None)

    def of(self, source: str, table: SourceTable) -> ResolvedUrl | None:
        """The source's own URL (its credential before its table in the file), else the shared one."""
        if (path := self.credentials.path(self.setting, source)) is not None:
            return self._read(path, f"credential {source}.{self.setting}")
        return self._in_table(self.file, table, "sources", source) or self.shared

    def ambiguities(self) -> Iterator[str]:
        """A line for each place that gives both a URL and a file with a URL: which one was meant is unknown."""
        for layer in self.stack.layers:
            yield from self._ambiguities_in(layer, layer.settings)
        for name, table in self.file.settings.sources.items():
            yield from self._ambiguities_in(self.file, table, "sources", name)

    def _ambiguities_in(self, layer: Layer, table: RawSettings | SourceTable, *around: str) -> Iterator[str]:
        url, path = self._values(table)
        if url is not None and path is not None:
            other = layer.origin((*around, self._file_setting))
            yield layer.problem((*around, self.setting), f"{other} gives the URL too; keep one of the two")

    def _in_table(self, layer: Layer, table: RawSettings | SourceTable, *around: str) -> ResolvedUrl | None:
        if not layer.invalid.isdisjoint({(*around, self.setting), (*around, self._file_setting)}):
            return ResolvedUrl(None, "refused")
        url, path = self._values(table)
        if url is not None:
            return ResolvedUrl(url, layer.origin((*around, self.setting)))
        if path is not None:
            return self._read(path, layer.origin((*around, self._file_setting)))
        return None

    @property
    def _file_setting(self) -> str:
        return f"{self.setting}_file"

    def _values(self, table: RawSettings | SourceTable) -> tuple[SecretStr | None, Path | None]:
        """The URL, and the file with the URL, that a table gives."""
        return getattr(table, self.setting), getattr(table, self._file_setting)

    def _read(self, path: Path, origin: str) -> ResolvedUrl:
        # A credential is identified by its name; its directory is chosen by systemd.
        origin = origin if origin.startswith("credential ") else f"{origin} ({path})"
        try:
            return ResolvedUrl(SecretStr(self.normalise(read_secret(path))), origin)
        except ValueError as error:
            self.problems.append(f"{origin}: {error}")
            return ResolvedUrl(None, origin)
