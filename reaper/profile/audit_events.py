"""The audit events of a profile: which of the rows that its actions insert have the evidence, and where in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reaper.profile.actions import Insert
from reaper.profile.base import Scalar
from reaper.profile.values import Json, Value, is_copy, is_moment_of_transition, is_variable

if TYPE_CHECKING:
    from reaper.profile.profile import Profile


def audit_inserts(profile: Profile) -> Mapping[str, Insert]:
    """By table: the insert of an audit event with the evidence."""
    steps = [step for action in profile.actions.values() for step in action.also]
    return {step.table: step for step in steps if isinstance(step, Insert) and evidence_path(step)}


def constant_values(insert: Insert) -> Mapping[str, Value]:
    """The columns to which every insert for one job writes the same value."""
    return {name: value for name, value in insert.values.items() if _is_always_equal(value)}


def moments_of(insert: Insert) -> list[str]:
    """The columns to which it writes the moment of the transition."""
    return [name for name, value in insert.values.items() if is_moment_of_transition(value)]


def evidence_path(insert: Insert) -> tuple[str, ...]:
    """The column with the evidence, and the path in its JSON; empty when the insert does not write the evidence."""
    for column, value in insert.values.items():
        path = _path_in(value)
        if path is not None:
            return (column, *path)
    return ()


def columns_that_find(insert: Insert) -> set[str]:
    """The columns by which the audit events of a job are found, and the one with the evidence."""
    return {*constant_values(insert), *moments_of(insert), *evidence_path(insert)[:1]}


def _is_always_equal(value: Value) -> bool:
    return isinstance(value, Scalar) or is_copy(value)


def _path_in(value: Value) -> tuple[str, ...] | None:
    if is_variable(value, "evidence"):
        return ()
    if isinstance(value, Json):
        for name, member in value.members.items():
            path = _path_in(member)
            if path is not None:
                return (name, *path)
    return None
