"""The sources as readers meet them: each through connections of its own, with what the daemon has heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reaper.making import make_source
from reaper.model import ReaperError
from reaper.nearest import did_you_mean
from reaper.settings import Settings
from reaper.source import Source
from reaper.watch import Watch
from reaper.witness import Testimony, WitnessAway


class NoSuchSource(ReaperError):
    """No source of that name is watched."""


class LastHeard:
    """What the workers said to the last sweep: nobody asks them anew for everybody who looks."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def ask(self) -> Testimony:
        return self._watch.testimony or Testimony(trouble="the workers have not been asked yet")

    def revoke(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        raise WitnessAway("nobody was asked")


@dataclass(frozen=True, slots=True)
class Place:
    """One source: who watches it, and the source as readers reach it."""

    watch: Watch
    reading: Source


class Places:
    """The sources that are watched, in the order of the configuration."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._places: dict[str, Place] = {}

    def open(self, settings: Settings, watches: Sequence[Watch]) -> None:
        """From now on these are the settings in force, and these the sources. Who is known keeps its connections."""
        places = dict[str, Place]()
        for watch in watches:
            known = self._places.get(watch.name)
            places[watch.name] = known if known and known.watch is watch else Place(watch, _reading(settings, watch))
        self.settings, self._places = settings, places

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._places))

    def __getitem__(self, source: str) -> Place:
        """Raises NoSuchSource."""
        try:
            return self._places[source]
        except KeyError:
            raise NoSuchSource(f"there is no source {source!r}{did_you_mean(source, self._places)}") from None


def _reading(settings: Settings, watch: Watch) -> Source:
    source = make_source(settings, settings.sources[watch.name])
    if source.habits.witness is not None:
        source.habits = replace(source.habits, witness=LastHeard(watch))
    return source
