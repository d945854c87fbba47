"""What keeps the HTTP interface from harm: who may ask for what, and how much of it."""

from reaper.admin.security.changing import CHANGING_RESPONSES, RESPONSES, Problem, changing
from reaper.admin.security.gate import Gate
from reaper.admin.security.guards import guarded
from reaper.admin.security.tokens import refuse_exposed
from reaper.admin.who import Who

__all__ = ["CHANGING_RESPONSES", "RESPONSES", "Gate", "Problem", "Who", "changing", "guarded", "refuse_exposed"]
