"""`reaper grants`: the least privileges that a role needs, as SQL."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click
from sqlalchemy import make_url

from reaper.catalog.session import Unsuitable
from reaper.check import Workload
from reaper.cli import exit_codes, output
from reaper.cli.options import json_option
from reaper.cli.sources import load_settings, single_source
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.grants.catalog_facts import GrantFacts, facts_from_database, facts_from_profile
from reaper.grants.needs import workload_of
from reaper.grants.statements import Grants, OptionalGrant, grants_for
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source

_MAX_ROLE_BYTES = 63
_RESERVED_ROLES = ("public", "none")


@click.command("grants", short_help="Print the least privileges that a role needs, as SQL.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option("--role", default="reaper", show_default=True, metavar="NAME", help="The role; NAME@HOST on MariaDB.")
@click.option(
    "--with",
    "extras",
    multiple=True,
    type=click.Choice([extra.value for extra in OptionalGrant]),
    help="Also grant this: other actions, purges, the fence, or seeing who holds a row lock.",
)
@click.option("--offline", is_flag=True, help="Ask no database: use what the profile says.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, role: str, extras: tuple[str, ...], offline: bool, as_json: bool
) -> int:
    """Print the least privileges that a role needs, as SQL: on columns, not on tables.

    They are enough for the daemon with these settings (sweeps with the source's action, scheduled purges) and for
    report and explain. Other privileges follow as comments; --with includes them. The database is asked for schemas,
    sequences and the like; nothing is changed. `reaper check` lists the privileges that a role lacks.

    \b
    Example:
      reaper grants --source main | psql -v ON_ERROR_STOP=1 --single-transaction main
    """
    settings = load_settings(ctx)
    selected = single_source(settings, source)
    workload = workload_of(selected)
    facts = _read_facts(settings, selected, _validate_role(selected, role), offline=offline)
    grants = grants_for(facts.profile, workload, facts)
    if as_json:
        output.write_document("grants", _document(selected, workload, facts, grants, extras))
    else:
        for line in _lines(selected, workload, facts, grants, extras):
            # Control characters in names are spelled out on a terminal only: in a pipe the SQL must stay exact.
            click.echo(shown(line) if sys.stdout.isatty() else line)
    for problem in facts.missing_names:
        say(f"reaper: source {selected.name}: {problem}: `reaper check` says more")
    return exit_codes.FAILED if facts.missing_names else exit_codes.DONE


def _validate_role(source: SourceSettings, role: str) -> str:
    """The role as SQL statements name it. Raises UsageError for a reserved or impossible name."""
    if "\0" in role or not role.strip() or role.casefold() in _RESERVED_ROLES:
        raise click.BadParameter("expected the name of a role", param_hint="--role")
    if _dialect(source) != "postgresql":
        return role if "@" in role else f"{role}@%"
    if len(role.encode()) > _MAX_ROLE_BYTES or role.startswith("pg_"):
        raise click.BadParameter(f"{role!r} cannot be the name of a role", param_hint="--role")
    return role


def _dialect(source: SourceSettings) -> str:
    return make_url(source.database_url.get_secret_value()).get_backend_name()


def _read_facts(settings: Settings, source: SourceSettings, role: str, *, offline: bool) -> GrantFacts:
    if offline:
        database = make_url(source.database_url.get_secret_value()).database or ""
        return facts_from_profile(source.profile, _dialect(source), database, role)
    opened = create_one_off_source(settings, source)
    with prefix_errors(opened):
        try:
            with opened.connect(prepared=False) as connection:
                return facts_from_database(connection, source.profile, role)
        except Unsuitable as error:
            raise ReaperError(str(error)) from None
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable(f"{error}; --offline prints what the profile alone says") from None


def _document(
    source: SourceSettings, workload: Workload, facts: GrantFacts, grants: Grants, extras: Sequence[str]
) -> dict[str, object]:
    return {
        "source": source.name,
        "profile": source.profile.name,
        "action": source.action,
        "purge": workload.purge,
        "role": facts.fixes.role,
        "with": sorted(set(extras)),
        "create": grants.create,
        "needed": grants.needed,
        "options": grants.options,
        "statements": list(grants.statements(extras)),
        "notes": grants.notes,
        "wrong": facts.missing_names,
    }


# --- SQL text, for people and for psql or mariadb -------------------------------------------------------------------


def _lines(
    source: SourceSettings, workload: Workload, facts: GrantFacts, grants: Grants, extras: Sequence[str]
) -> Iterator[str]:
    purges = "purges on schedule" if workload.purge else "no purge on schedule"
    yield _comment(f"Source {source.name}: profile {source.profile.name}, action {source.action}, {purges}.")
    yield _comment("To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.")
    if _dialect(source) == "postgresql":
        yield _comment("All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction")
    yield from (_comment(f"NOTE {note}") for note in grants.notes)
    yield from (_comment(f"WRONG {problem}") for problem in facts.missing_names)
    yield ""
    if grants.create is None:
        yield _comment(f"The role {facts.fixes.role} exists already.")
    else:
        yield _comment(grants.create.why)
        yield grants.create.sql
    for grant in grants.needed:
        yield _comment(grant.why)
        yield grant.sql
    for option in grants.options:
        included = option.extra in extras
        yield ""
        yield _comment(f"{option.why}{'' if included else f' (--with {option.extra})'}")
        for grant in option.grants:
            yield grant.sql if included else _comment(grant.sql)


def _comment(text: str) -> str:
    """One line: newlines in names are spelled out."""
    return f"-- {shown(text)}"
