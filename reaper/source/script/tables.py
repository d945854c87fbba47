"""Which tables a transition changes."""

from __future__ import annotations

from collections.abc import Sequence

from reaper.profile import Action, Insert, Profile


def written(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """All of them, the jobs' own first."""
    own = [profile.jobs.table for action in actions if action.assign is not None or action.delete]
    return list(dict.fromkeys([*own, *(step.table for action in actions for step in action.also)]))


def changed_elsewhere(profile: Profile, actions: Sequence[Action]) -> list[str]:
    """Tables with rows that are changed and have not been locked before."""
    locked = {profile.jobs.table, *(part.table for part in profile.jobs.parts)}
    steps = [step.table for action in actions for step in action.also if not isinstance(step, Insert)]
    return [table for table in dict.fromkeys(steps) if table not in locked]
