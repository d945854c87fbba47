"""The sources as readers meet them: each through connections of its own, with what the daemon has heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reaper.common.suggestions import did_you_mean
from reaper.config import Settings
from reaper.errors import NoSuchSource, ProbeUnavailable
from reaper.liveness import LivenessReport
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source
from reaper.source.factory import create_source


class CachedProbe:
    """What the workers said to the last sweep: nobody asks them anew for everybody who looks."""

    def __init__(self, runner: SourceRunner) -> None:
        self._runner = runner

    def ask(self) -> LivenessReport:
        return self._runner.liveness or LivenessReport(trouble="the workers have not been asked yet")

    def revoke(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        raise ProbeUnavailable("nobody was asked")


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """One source: who watches it, and the source as readers reach it."""

    runner: SourceRunner
    reading: Source


class SourceRegistry:
    """The sources that are watched, in the order of the configuration."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._places: dict[str, RegisteredSource] = {}

    def open(self, settings: Settings, runners: Sequence[SourceRunner]) -> None:
        """From now on these are the settings in force, and these the sources. Who is known keeps its connections."""
        places = dict[str, RegisteredSource]()
        for runner in runners:
            known = self._places.get(runner.name)
            places[runner.name] = (
                known if known and known.runner is runner else RegisteredSource(runner, _reading(settings, runner))
            )
        self.settings, self._places = settings, places

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._places))

    def __getitem__(self, source: str) -> RegisteredSource:
        """Raises NoSuchSource."""
        try:
            return self._places[source]
        except KeyError:
            raise NoSuchSource(f"there is no source {source!r}{did_you_mean(source, self._places)}") from None


def _reading(settings: Settings, runner: SourceRunner) -> Source:
    source = create_source(settings, settings.sources[runner.name])
    if source.options.probe is not None:
        source.options = replace(source.options, probe=CachedProbe(runner))
    return source
