"""The watched sources as HTTP reads them: over connections of their own, with what the daemon knows of outages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reaper.common.suggestions import did_you_mean
from reaper.config import Settings, SourceSettings
from reaper.errors import NoSuchSource, ProbeUnavailable
from reaper.liveness import LivenessReport, TaskRemoval
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source
from reaper.source.factory import create_source, stores_of


class CachedProbe:
    """The workers' answer to the last sweep. Readers do not ask the workers again."""

    def __init__(self, runner: SourceRunner) -> None:
        self._runner = runner

    def ask(self) -> LivenessReport:
        return self._runner.liveness or LivenessReport(trouble="the workers have not been asked yet")

    def revoke(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        raise ProbeUnavailable("a reader does not revoke tasks")

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:  # noqa: ARG002
        return TaskRemoval(trouble="a reader does not remove tasks")


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """One source: the runner that sweeps it, and the source as readers reach it."""

    runner: SourceRunner
    reading: Source


class SourceRegistry:
    """The watched sources, in the order of the configuration."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._sources: dict[str, RegisteredSource] = {}

    def replace(self, settings: Settings, runners: Sequence[SourceRunner]) -> None:
        """Put these settings and sources into force. A source whose runner stays keeps its connections."""
        sources = dict[str, RegisteredSource]()
        for runner in runners:
            before = self._sources.get(runner.name)
            kept = before is not None and before.runner is runner
            sources[runner.name] = before if before and kept else RegisteredSource(runner, _reading(settings, runner))
        self.settings, self._sources = settings, sources

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._sources))

    def __getitem__(self, name: str) -> RegisteredSource:
        """Raises NoSuchSource."""
        try:
            return self._sources[name]
        except KeyError:
            raise NoSuchSource(f"there is no source {name!r}{did_you_mean(name, self._sources)}") from None


@contextmanager
def with_other_settings(source: Source, settings: Settings, own: SourceSettings) -> Iterator[Source]:
    """A source with these settings, for one request. It shares what `source` knows of workers, reaps and spellings."""
    changed = create_source(settings, own, stores=stores_of(source), decision=source.decision)
    changed.options = replace(changed.options, probe=source.options.probe)
    try:
        yield changed
    finally:
        changed.close()


def _reading(settings: Settings, runner: SourceRunner) -> Source:
    shared, decision = runner.source, runner.source.decision
    source = create_source(settings, settings.sources[runner.name], stores=stores_of(shared), decision=decision)
    if source.options.probe is not None:
        source.options = replace(source.options, probe=CachedProbe(runner))
    return source
