"""The vocabulary of profiles: how a job system says "running", shows signs of life, and is told to stop.

A profile is data. The shipped ones are in `reaper/profiles/`, one TOML file each. A user's own is in the configuration
file, complete or with `extends = "<profile>"` and the differences. Nothing here makes SQL: a profile names tables,
columns and values; `reaper.staleness.rule` and `reaper.source` turn them into statements, in which names are always
quoted and values always bound.
"""

from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Attempts, Delete, Insert, Step, Update, is_conditional
from reaper.profile.base import Scalar
from reaper.profile.beside import Beside
from reaper.profile.choices import Choice, RelatedCount
from reaper.profile.conditions import Condition, Conditions, Log, Now, Related, Running, StartLostLog
from reaper.profile.loading import resolve, shipped
from reaper.profile.profile import Fence, JobMapping, Profile, PurgeRules
from reaper.profile.values import First, FromColumn, Json, Next, NextValue, Sql, Value, Values, Variable
from reaper.profile.witnesses import CeleryTask, Children, Events, Witness, WorkerWitness

__all__ = [
    "REQUEUE_ELSE_FAIL",
    "Action",
    "Attempts",
    "Beside",
    "CeleryTask",
    "Children",
    "Choice",
    "Condition",
    "Conditions",
    "Delete",
    "Events",
    "Fence",
    "First",
    "FromColumn",
    "Insert",
    "JobMapping",
    "Json",
    "Log",
    "Next",
    "NextValue",
    "Now",
    "Profile",
    "PurgeRules",
    "Related",
    "RelatedCount",
    "Running",
    "Scalar",
    "Sql",
    "StartLostLog",
    "Step",
    "Update",
    "Value",
    "Values",
    "Variable",
    "Witness",
    "WorkerWitness",
    "is_conditional",
    "resolve",
    "shipped",
]
