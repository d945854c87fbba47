"""Hands to put up fences."""

from __future__ import annotations

from typing import Any

from reaper.fence.operations import FenceAction, State, apply, plan, standing
from reaper.profile import Profile, resolve
from reaper.source import Source
from tests.support.protea import PATIENCE, thresholds


def source_of(url: str, profile: Profile | str = "protea") -> Source:
    found = resolve(profile) if isinstance(profile, str) else profile
    return Source("main", url, found, thresholds(), PATIENCE)


def changed(**changes: Any) -> Profile:
    """protea, but for this."""
    return resolve("mine", {"mine": {"extends": "protea", **changes}})


def install(source: Source) -> State:
    return apply(source, plan(source, FenceAction.INSTALL)).state


def remove(source: Source) -> State:
    return apply(source, plan(source, FenceAction.REMOVE)).state


def state(source: Source) -> State:
    return standing(source).state
