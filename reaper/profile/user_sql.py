"""The SQL that a user wrote into a profile, and the names in it that PostgreSQL looks up along the search path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from reaper.profile.conditions import single_conditions
from reaper.profile.profile import Profile
from reaper.profile.related_tables import condition_sets
from reaper.profile.sql_template import pieces
from reaper.profile.values import Sql, walk_values


class UserSql(NamedTuple):
    """A piece of the user's SQL, without its braces. `place` is its key in the file."""

    place: str
    sql: str


NAME_KINDS = ("function", "operator", "table", "type")


class LookedUpName(NamedTuple):
    """A name without a schema. `kind` is one of `NAME_KINDS`."""

    kind: str
    name: str


def user_sql(profile: Profile) -> Iterator[UserSql]:
    """Every piece, in the order of the file's keys."""
    for place, _, conditions in condition_sets(profile):
        for n, condition in enumerate(conditions):
            for part, single in single_conditions(condition):
                if single.sql is not None:
                    yield UserSql(f"{place}.{n}{part}.sql", _without_braces(single.sql))
    for name, limit in profile.limits.by_name.items() if profile.limits else ():
        if limit.sql is not None:
            yield UserSql(f"limits.{name}.sql", _without_braces(limit.sql))
    for n, alive in enumerate(profile.alive):
        if alive.sql is not None:
            yield UserSql(f"alive.{n}.sql", _without_braces(alive.sql))
    for name, action in profile.actions.items():
        for value in action.values():
            for part in walk_values(value):
                if isinstance(part, Sql):
                    yield UserSql(f"actions.{name}", _without_braces(part.sql))


def _without_braces(template: str) -> str:
    """Each column's place is taken by a literal: it is no name that is looked up."""
    return "".join(piece.sql + ("''" if piece.column else "") for piece in pieces(template))


_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_TOKENS = re.compile(
    rf"""(?P<skipped>--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<names>{_NAME}(?:\s*\.\s*{_NAME})*)|(?P<operator>[-+*/<>=~!@\#%^&|`?]+)|(?P<cast>::)|(?P<bracket>\()|(?P<other>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_TABLE = frozenset({"from", "join"})
_BEFORE_TYPE = frozenset({"::"})


def looked_up_names(sql: str) -> Iterator[LookedUpName]:
    """The names without a schema. Keywords are among the functions: they are no functions of any schema."""
    tokens = [token for token in _TOKENS.finditer(sql) if token.lastgroup != "skipped" and token["skipped"] is None]
    before, number = "", 0
    while number < len(tokens):
        token, following = tokens[number], tokens[number + 1 : number + 2]
        text = token.group()
        if token["operator"]:
            yield LookedUpName("operator", text)
        elif token["names"] and text.casefold() == "operator" and following and following[0]["bracket"]:
            # OPERATOR(schema.+) has its schema: its sign is skipped with it.
            while number < len(tokens) and tokens[number].group() != ")":
                number += 1
        elif token["names"] and len(parts := re.findall(_NAME, text)) == 1:
            yield from _bare_name(_folded(parts[0]), before, is_call=bool(following and following[0]["bracket"]))
        before = text.casefold()
        number += 1


def _bare_name(name: str, before: str, *, is_call: bool) -> Iterator[LookedUpName]:
    if before in _BEFORE_TYPE:
        yield LookedUpName("type", name)
    elif is_call:
        yield LookedUpName("function", name)
    elif before in _BEFORE_TABLE:
        yield LookedUpName("table", name)


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
