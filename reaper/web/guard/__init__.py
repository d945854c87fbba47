"""What keeps the HTTP interface from harm: who may ask for what, and how much of it."""

from reaper.web.guard.access import AccessControl
from reaper.web.guard.auth_dependency import CHANGING_RESPONSES, RESPONSES, Problem, changing
from reaper.web.guard.middleware import guarded
from reaper.web.guard.tokens import Caller, refuse_exposed

__all__ = [
    "CHANGING_RESPONSES",
    "RESPONSES",
    "AccessControl",
    "Caller",
    "Problem",
    "changing",
    "guarded",
    "refuse_exposed",
]
