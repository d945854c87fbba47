"""A profile bound to a database: surveys its jobs, explains them, and ends those that are stale."""

from reaper.source.job_lookup import JobLookup
from reaper.source.name_spelling_decision import SpellingDecision
from reaper.source.post_transition_state import MAX_FOLLOWED, JobSnapshot, Sign
from reaper.source.reap import Claim
from reaper.source.source import Source, SourceOptions
from reaper.source.survey import Candidate, JobSigns, Survey, add_counts, with_stale
from reaper.source.transition.audit_event import AuditInfo

__all__ = [
    "MAX_FOLLOWED",
    "AuditInfo",
    "Candidate",
    "Claim",
    "JobLookup",
    "JobSigns",
    "JobSnapshot",
    "Sign",
    "Source",
    "SourceOptions",
    "SpellingDecision",
    "Survey",
    "add_counts",
    "with_stale",
]
