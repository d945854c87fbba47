"""Says which names and values of a profile the database spells in another case, as sources with it take them."""

from __future__ import annotations

from reaper.catalog import Catalog, QueryFailed
from reaper.check.finding import Finding, error, note
from reaper.database.dialect import Dialect
from reaper.errors import SpellingUnclear
from reaper.profile import Profile
from reaper.source.spelling_decision import read_spelling


def check_spelling(dialect: Dialect, catalog: Catalog, profile: Profile) -> tuple[Profile, list[Finding]]:
    """The profile as this database spells it, and what differs; the profile as it is where that cannot be told."""
    jobs = profile.jobs.table
    try:
        spelling = read_spelling(dialect, catalog.query, profile)
    except SpellingUnclear as unclear:
        return profile, [error(jobs, problem) for problem in unclear.problems]
    except QueryFailed as failed:
        return profile, [note(jobs, f"could not check whether names or values differ only by case: {failed}")]
    return spelling.applied_to(profile), [note(subject, message) for subject, message in spelling.notes()]
