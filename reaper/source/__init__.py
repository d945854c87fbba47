"""A profile bound to a database: survey, claim, explain."""

from reaper.source.audit import AuditInfo
from reaper.source.claim import Claim
from reaper.source.followup import MAX_FOLLOWED, JobSnapshot, Sign
from reaper.source.lookup import JobLookup
from reaper.source.source import Source
from reaper.source.survey import Candidate, Survey, with_stale
from reaper.source.transition.second_check import Predicate

__all__ = [
    "MAX_FOLLOWED",
    "AuditInfo",
    "Candidate",
    "Claim",
    "JobLookup",
    "JobSnapshot",
    "Predicate",
    "Sign",
    "Source",
    "Survey",
    "with_stale",
]
