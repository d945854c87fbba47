"""The mapping vocabulary: how a job system says "running", shows life, and is told to stop.

A profile is data. Shipped ones stand in `reaper/profiles/`, one TOML file each; a user's own stands in the
configuration file, whole or as `extends = "<profile>"` with the differences. Nothing here knows SQL: a profile names
tables, columns and values; `reaper.staleness.rule` and `reaper.source` turn them into statements, always quoting the
names and binding the values.
"""

from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Attempts, Delete, Insert, Step, Update
from reaper.profile.base import Scalar
from reaper.profile.conditions import Condition, Conditions, Log, Now, Related, Running
from reaper.profile.loading import resolve, shipped
from reaper.profile.profile import Fence, Jobs, Profile, PurgeRules
from reaper.profile.values import First, FromColumn, Json, Next, NextValue, Sql, Value, Values, Variable
from reaper.profile.witnesses import CeleryTask, Children, Events, Witness

__all__ = [
    "REQUEUE_ELSE_FAIL",
    "Action",
    "Attempts",
    "CeleryTask",
    "Children",
    "Condition",
    "Conditions",
    "Delete",
    "Events",
    "Fence",
    "First",
    "FromColumn",
    "Insert",
    "Jobs",
    "Json",
    "Log",
    "Next",
    "NextValue",
    "Now",
    "Profile",
    "PurgeRules",
    "Related",
    "Running",
    "Scalar",
    "Sql",
    "Step",
    "Update",
    "Value",
    "Values",
    "Variable",
    "Witness",
    "resolve",
    "shipped",
]
