"""`reaper grants`: the least that a role needs, as SQL."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click
from sqlalchemy import make_url

from reaper.catalog.session import Unsuitable
from reaper.check import Workload
from reaper.cli import exit_codes, output
from reaper.cli.options import json_option
from reaper.cli.sources import only_source, settings_of
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.grants.facts import GrantFacts, facts_from_database, facts_from_profile
from reaper.grants.needs import workload_of
from reaper.grants.statements import Grants, OptionalGrant, grants_for
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source

_LONGEST_ROLE = 63
_NOBODY_IN_PARTICULAR = ("public", "none")


@click.command("grants", short_help="Print the least that a role needs, as SQL.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option("--role", default="reaper", show_default=True, metavar="NAME", help="The role; NAME@HOST on MariaDB.")
@click.option(
    "--with",
    "extras",
    multiple=True,
    type=click.Choice([extra.value for extra in OptionalGrant]),
    help="More: other actions, purges, the fence, or to see who holds a row.",
)
@click.option("--offline", is_flag=True, help="Ask no database: take the profile's word.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, role: str, extras: tuple[str, ...], offline: bool, as_json: bool
) -> int:
    """Print the least that a role needs, as SQL: columns, not tables.

    It is what the daemon does with these settings, report and explain included: sweeps with the source's action, and
    purges where they are scheduled. Everything else stands below it as a comment, or is let in by --with. The
    database is asked for schemas, sequences and the like; nothing is changed. `reaper check` names what a role lacks.

    \b
    Example:
      reaper grants --source main | psql -v ON_ERROR_STOP=1 --single-transaction main
    """
    settings = settings_of(ctx)
    found = only_source(settings, source)
    duties = workload_of(found)
    ground = _ground(settings, found, _role(found, role), offline=offline)
    grants = grants_for(found.profile, duties, ground)
    if as_json:
        output.write("grants", _members(found, duties, ground, grants, extras))
    else:
        for line in _lines(found, duties, ground, grants, extras):
            # A name is never spelled otherwise for whoever executes it, only for whoever looks at it.
            click.echo(shown(line) if sys.stdout.isatty() else line)
    for wrong in ground.missing_names:
        say(f"reaper: source {found.name}: {wrong}: `reaper check` says more")
    return exit_codes.FAILED if ground.missing_names else exit_codes.DONE


def _role(found: SourceSettings, role: str) -> str:
    """The role as the statements take it. Raises UsageError for one that is somebody else, or everybody."""
    if "\0" in role or not role.strip() or role.casefold() in _NOBODY_IN_PARTICULAR:
        raise click.BadParameter("expected the name of a role", param_hint="--role")
    if _dialect(found) != "postgresql":
        return role if "@" in role else f"{role}@%"
    if len(role.encode()) > _LONGEST_ROLE or role.startswith("pg_"):
        raise click.BadParameter(f"{role!r} cannot be the name of a role", param_hint="--role")
    return role


def _dialect(found: SourceSettings) -> str:
    return make_url(found.database_url.get_secret_value()).get_backend_name()


def _ground(settings: Settings, found: SourceSettings, role: str, *, offline: bool) -> GrantFacts:
    if offline:
        database = make_url(found.database_url.get_secret_value()).database or ""
        return facts_from_profile(found.profile, _dialect(found), database, role)
    source = create_one_off_source(settings, found)
    with prefix_errors(source):
        try:
            with source.connect() as connection:
                return facts_from_database(connection, found.profile, role)
        except Unsuitable as why:
            raise ReaperError(str(why)) from None
        except DatabaseUnavailable as away:
            raise DatabaseUnavailable(f"{away}; --offline prints what the profile alone tells") from None


def _members(
    found: SourceSettings, duties: Workload, ground: GrantFacts, grants: Grants, extras: Sequence[str]
) -> dict[str, object]:
    return {
        "source": found.name,
        "profile": found.profile.name,
        "action": found.action,
        "purge": duties.purge,
        "role": ground.fixes.role,
        "with": sorted(set(extras)),
        "create": grants.create,
        "needed": grants.needed,
        "options": grants.options,
        "statements": list(grants.statements(extras)),
        "notes": grants.notes,
        "wrong": ground.missing_names,
    }


# --- for people, and for the server's own client -------------------------------------------------------------------


def _lines(
    found: SourceSettings, duties: Workload, ground: GrantFacts, grants: Grants, extras: Sequence[str]
) -> Iterator[str]:
    purges = "purges on schedule" if duties.purge else "no purge on schedule"
    yield _comment(f"Source {found.name}: profile {found.profile.name}, action {found.action}, {purges}.")
    yield _comment("For the owner of the tables, or who administers the server. Printed by `reaper grants`.")
    if _dialect(found) == "postgresql":
        yield _comment("All of it or nothing: psql -v ON_ERROR_STOP=1 --single-transaction")
    yield from (_comment(f"NOTE {note}") for note in grants.notes)
    yield from (_comment(f"WRONG {wrong}") for wrong in ground.missing_names)
    yield ""
    if grants.create is None:
        yield _comment(f"The role {ground.fixes.role} is there already.")
    else:
        yield _comment(grants.create.why)
        yield grants.create.sql
    for grant in grants.needed:
        yield _comment(grant.why)
        yield grant.sql
    for option in grants.options:
        let_in = option.extra in extras
        yield ""
        yield _comment(f"{option.why}{'' if let_in else f' (--with {option.extra})'}")
        for grant in option.grants:
            yield grant.sql if let_in else _comment(grant.sql)


def _comment(text: str) -> str:
    """One line, whatever stands in the names."""
    return f"-- {shown(text)}"
