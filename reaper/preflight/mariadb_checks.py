"""What is asked of MariaDB alone."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from reaper.nearest import did_you_mean
from reaper.preflight import mariadb_queries as queries
from reaper.preflight.catalog import Unanswered
from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, error, note, warning
from reaper.preflight.mariadb import NOBODY, MariaDB
from reaper.preflight.needs import EVERY_ACTION, Duties, missing, needs
from reaper.preflight.tables import assumed
from reaper.preflight.uses import instants
from reaper.profile import Profile
from reaper.profile.places import belonging
from reaper.source.mariadb import OLDEST

_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")


def unsupported(connection: Connection, profile: Profile) -> Finding | None:
    """Told alone: nothing of the rest matters then."""
    version = str(connection.execute(text("SELECT version()")).scalar_one())
    connection.rollback()
    known = connection.dialect.server_version_info or ()
    if "mariadb" not in version.casefold() or tuple(known[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return error("server", f"is {version}: MariaDB {oldest} or later is needed; nothing else was examined")
    if profile.jobs.log is not None:
        return error(
            profile.jobs.table,
            f"profile {profile.name!r}: jobs that exist only as a log need PostgreSQL: no lock of MariaDB's keeps "
            "entries from being written until a commit",
        )
    return None


def check_mariadb(exam: Examination, catalog: MariaDB) -> Iterator[Finding]:
    if catalog.read_only:
        fix = catalog.remedies.set_globally("read_only", "OFF")
        yield error("server", "is read-only, or a replica: nothing can be written there", fix)
    yield from _check_hidden(exam, catalog)
    yield from _check_keys(exam)
    yield from _check_compared(exam, catalog)
    yield from _check_fractions(exam, catalog)
    yield from _check_loose(exam)
    yield from _check_process(exam, catalog)


def _check_hidden(exam: Examination, catalog: MariaDB) -> Iterator[Finding]:
    every = needs(exam.profile, Duties(EVERY_ACTION.action, purge=True))
    for name, hidden in sorted(exam.hidden.items()):
        table = assumed(exam.profile, name, NOBODY, (hidden.schema, hidden.table))
        who = f"the user {exam.catalog.server.role!r}"
        fix = catalog.remedies.grant(table, missing(exam.needs.get(name, every[name]), table))
        if name not in exam.needs:
            yield note(name, f"is not shown to {who}: `reaper purge`, or another action, cannot use it", fix)
        elif hidden.partly:
            message = f"could not be examined: {who} may see no more than single columns of it"
            yield warning(name, message, fix)
        else:
            near = did_you_mean(name, exam.catalog.names(name))
            yield error(name, f"is not there, or {who} may not see it{near}", fix)


def _check_keys(exam: Examination) -> Iterator[Finding]:
    table = exam.profile.jobs.table
    for column in exam.columns(table, exam.profile.jobs.key):
        if column.words.partition("(")[0] in _BYTES:
            message = f"is {column.words}, and part of jobs.key: keys travel as text, which bytes are not"
            yield error(f"{table}.{column.name}", message)


def _check_compared(exam: Examination, catalog: MariaDB) -> Iterator[Finding]:
    """The server refuses to compare texts of two collations, unless one of them is binary."""
    jobs, told = exam.jobs, set[tuple[str, str]]()
    for table, column, own in _matches(exam.profile):
        theirs = exam.real(table)
        if jobs is None or theirs is None or (table, column) in told:
            continue
        if not (exam.complete(table, [column]) and exam.complete(exam.profile.jobs.table, [own])):
            continue
        told.add((table, column))
        if (why := catalog.compare((theirs, column), (jobs, own))) is not None:
            collation = catalog.definitions[jobs.identity, own].collation
            fix = catalog.remedies.collate(theirs, column, collation) if collation else None
            message = f"cannot be compared with {exam.profile.jobs.table}.{own}: {why}"
            yield error(f"{table}.{column}", message, fix)


def _matches(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Columns that are compared with columns of a job's row."""
    key = profile.jobs.key
    for alive in profile.alive:
        if alive.events:
            yield from ((alive.events.table, *pair) for pair in alive.events.matching(key).items())
        if alive.children:
            yield from ((profile.jobs.table, *pair) for pair in zip(alive.children.parent, key, strict=True))
    for _, related in belonging(profile):
        yield from ((related.table, *pair) for pair in related.match.items())


def _check_fractions(exam: Examination, catalog: MariaDB) -> Iterator[Finding]:
    for instant in instants(exam.profile):
        column, table = exam.column(instant.table, instant.column), exam.real(instant.table)
        if column and table and column.family == "datetime" and not column.words.endswith("(6)"):
            yield note(
                f"{instant.table}.{column.name}",
                f"is {column.words}: the fractions of its seconds are cut off, so that a moment looks earlier by up "
                "to a second; the statement rewrites the table",
                catalog.remedies.with_fractions(table, column.name),
            )


def _check_loose(exam: Examination) -> Iterator[Finding]:
    profile = exam.profile
    asked = profile.jobs.running.conditions if profile.jobs.running else ()
    mine = [*profile.jobs.key, *(condition.column for condition in asked if condition.column)]
    names = {f"{profile.jobs.table}.{c.name}": None for c in exam.columns(profile.jobs.table, mine) if c.loose}
    for table, name, _ in _matches(profile):
        names |= {f"{table}.{c.name}": None for c in exam.columns(table, [name]) if c.loose}
    if names:
        yield note(
            profile.jobs.table,
            f"compared by collations for which texts are equal that differ in case: {listed(names)}",
        )


def _check_process(exam: Examination, catalog: MariaDB) -> Iterator[Finding]:
    try:
        catalog.ask(queries.SESSIONS)
    except Unanswered:
        yield note(
            "server",
            f"the user {exam.catalog.server.role!r} has not the privilege PROCESS: who holds a locked job's row is not "
            "told",
            catalog.remedies.grant_global("PROCESS"),
        )
