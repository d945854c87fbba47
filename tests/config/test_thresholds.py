"""Thresholds: the most specific one applies, and says where it was set."""

from __future__ import annotations

from reaper.config import load
from reaper.model import Threshold
from tests.config.support import THRESHOLDS, write


def test_most_specific_threshold_applies_with_its_origin() -> None:
    write(THRESHOLDS)
    sources = load({}, {"REAPER_STALL_SECONDS": "9m"}).sources
    main, other = sources["main"].thresholds, sources["other"].thresholds
    assert main.timeout_of("embed") == Threshold(14400, "kind embed of source main (config/reaper.toml:12)")
    assert main.stall_of("embed") == Threshold(180, "kind embed (config/reaper.toml:6)")
    assert main.timeout_of("x") == Threshold(7200, "source main (config/reaper.toml:9)")
    assert main.stall_of(None) == Threshold(540, "REAPER_STALL_SECONDS")
    assert other.timeout_of("embed") == Threshold(10800, "kind embed (config/reaper.toml:5)")
    assert other.timeout_of("x") == Threshold(3600, "config/reaper.toml:1")


def test_timeout_given_as_a_flag_beats_all_others_but_longer_ones_of_kinds() -> None:
    write(THRESHOLDS)
    settings = load({"timeout_seconds": "5m"}, {"REAPER_TIMEOUT_SECONDS": "9h"})
    for source in settings.sources.values():
        assert source.thresholds.timeout_of(None) == source.thresholds.timeout_of("x") == Threshold(300, "--older-than")
        assert source.thresholds.timeout_of("embed").seconds > 300
        assert source.thresholds.row_timeouts_above == 300
        assert source.thresholds.stall_of("embed").seconds == 180
    assert settings.origins["timeout_seconds"] == "--older-than"
    for source in load({"timeout_seconds": "30d"}, {}).sources.values():
        assert source.thresholds.timeout_of("embed") == Threshold(30 * 86400, "--older-than")
    for source in load({}, {}).sources.values():
        assert source.thresholds.row_timeouts_above == 0, "no age was asked for"
