"""The mapping vocabulary: how a job system says "running", shows life, and is told to stop.

A profile is data. Shipped ones stand in `reaper/profiles/`, one TOML file each; a user's own stands in the
configuration file, whole or as `extends = "<profile>"` with the differences. Nothing here knows SQL: a profile names
tables, columns and values; `reaper.rule` and `reaper.source` turn them into statements, always quoting the names and
binding the values.
"""

from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Attempts, Delete, Insert, Step, Update
from reaper.profile.conditions import Condition, Conditions, Log, Now, Related, Running
from reaper.profile.loading import resolve, shipped
from reaper.profile.part import Scalar
from reaper.profile.signs import Alive, CeleryTask, Children, Events
from reaper.profile.values import Beyond, First, FromColumn, Json, Known, Next, Sql, Value, Values
from reaper.profile.vocabulary import Fence, Jobs, Profile, Purge

__all__ = [
    "REQUEUE_ELSE_FAIL",
    "Action",
    "Alive",
    "Attempts",
    "Beyond",
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
    "Known",
    "Log",
    "Next",
    "Now",
    "Profile",
    "Purge",
    "Related",
    "Running",
    "Scalar",
    "Sql",
    "Step",
    "Update",
    "Value",
    "Values",
    "resolve",
    "shipped",
]
