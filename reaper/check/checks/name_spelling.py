"""Says which names and values of a profile the database spells in another case, as sources with it take them."""

from __future__ import annotations

from collections.abc import Collection

from reaper.catalog import Catalog, QueryFailed
from reaper.check.finding import Finding, error, note
from reaper.database.dialect import Dialect
from reaper.errors import SpellingUnclear
from reaper.profile import Profile
from reaper.source.name_spelling_decision import read_spelling


def check_spelling(
    dialect: Dialect, catalog: Catalog, profile: Profile
) -> tuple[Profile, Collection[str], list[Finding]]:
    """The profile as this database spells it, and what differs; the profile as it is where that is unclear.

    The profile has every optional insert that the tables allow. Between the two: the tables of those inserts that the
    reaper leaves out, because the role may not make them.
    """
    jobs = profile.jobs.table
    catalog.lookup_schemas = profile.search_path
    try:
        spelling = read_spelling(dialect, catalog.query, profile, catalog.resolution_path, catalog.may_sample)
    except SpellingUnclear as unclear:
        return profile, (), [error(jobs, problem) for problem in unclear.problems]
    except QueryFailed as failed:
        unknown = f"could not check whether names or values differ only by case: {failed}"
        return profile, (), [note(jobs, unknown)]
    catalog.lookup_schemas = (*profile.search_path, *spelling.type_schemas)
    findings = [note(subject, message) for subject, message in spelling.notes()]
    return spelling.with_every_privilege().applied_to(profile), spelling.denied.keys(), findings
