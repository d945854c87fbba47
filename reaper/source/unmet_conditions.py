"""Why a job does not run: those of the profile's conditions that do not hold for its row, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, FromClause, String, case, func, literal, not_

from reaper.profile import Condition, Conditions, Now, Related
from reaper.profile.conditions import Bound, OtherColumn
from reaper.sql import expressions as sql
from reaper.sql.conditions import Columns, holds
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables

_LONGEST_SQL = 200


def unmet_conditions(tables: ProfileTables, jobs: FromClause) -> Element | None:
    """A document with a text for each condition that does not hold, by its number, and NULL for the others.

    None for a log, where an entry ends a job.
    """
    running = tables.profile.jobs.running
    if running is None:
        return None
    unmet = [*_unmet(tables, running.conditions, jobs)]
    unmet += [(tables.has_related_row(part, jobs), literal(_no_row(part), String)) for part in running.exists]
    unmet += [(not_(tables.has_related_row(part, jobs)), literal(_a_row(part), String)) for part in running.missing]
    return sql.json_object({f"{n:03}": _text_unless(*each) for n, each in enumerate(unmet)})


def read_unmet(document: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The texts of such a document, in the profile's order."""
    return tuple(str(text) for _, text in sorted((document or {}).items()) if text is not None)


def _text_unless(condition: ColumnElement[bool], text: Element) -> Element:
    # A condition that compares with NULL does not hold.
    return case((func.coalesce(condition, False), sql.null_text()), else_=text)


def _unmet(
    tables: ProfileTables, conditions: Conditions, jobs: FromClause
) -> Iterator[tuple[ColumnElement[bool], Element]]:
    table, row = tables.profile.jobs.table, tables.job_row(jobs)
    for condition in conditions:
        yield holds(condition, row, lambda column: tables.stored_time(table, column)), _contrary(condition, row)


def _contrary(condition: Condition, jobs: Columns) -> Element:
    """What is the case instead, with the value that the row has."""
    if condition.otherwise is not None:
        return literal(condition.otherwise, String)
    if condition.sql is not None:
        return literal(f"the condition {condition.sql[:_LONGEST_SQL]} does not hold", String)
    if condition.any_of is not None:
        parts = [_contrary(part, jobs) for part in condition.any_of]
        return sql.concat(parts[0], *(piece for part in parts[1:] for piece in (" and ", part)))
    name = condition.column or ""
    value = sql.shortened(sql.text_of(jobs.c[name]))
    if condition.null == "not null":
        return literal(f"its {name} is not set", String)
    is_set = sql.concat(f"its {name} is set (", value, ")") if condition.null else _is(name, value, condition, jobs)
    return case((jobs.c[name].is_(None), literal(f"its {name} is not set", String)), else_=is_set)


def _is(name: str, value: Element, condition: Condition, jobs: Columns) -> Element:
    bound = condition.bound
    if bound is None:
        return sql.concat(f"its {name} is ", value)
    order = "earlier than" if condition.less_than is not None else "later than"
    if not isinstance(bound, Now):
        order = "less than" if condition.less_than is not None else "greater than"
    is_not = sql.concat(f"its {name} is ", value, f", not {order} {_words(bound)}")
    if not isinstance(bound, OtherColumn):
        return is_not
    other = jobs.c[bound.column]
    not_set = literal(f"its {bound.column} is not set", String)
    return case((other.is_(None), not_set), else_=sql.concat(is_not, " (", sql.shortened(sql.text_of(other)), ")"))


def _words(bound: Bound) -> str:
    if isinstance(bound, OtherColumn):
        return bound.column
    return "now" if isinstance(bound, Now) else str(bound)


def _no_row(part: Related) -> str:
    return f"no row of {part.table} belongs to it{_which(part.where)}"


def _a_row(part: Related) -> str:
    return f"a row of {part.table} belongs to it{_which(part.where)}"


def _which(conditions: Conditions) -> str:
    """The conditions that a row of another table has to meet, in words."""
    if not conditions:
        return ""
    return f" with {' and '.join(_described(condition) for condition in conditions)}"


def _described(condition: Condition) -> str:
    if condition.sql is not None:
        return condition.sql[:_LONGEST_SQL]
    if condition.any_of is not None:
        return f"({' or '.join(_described(part) for part in condition.any_of)})"
    name = condition.column
    null = ["NULL"] if condition.or_null else []
    if condition.values is not None:
        return f"{name} {' or '.join((*map(str, condition.values), *null))}"
    if condition.not_in is not None:
        return f"{name} other than {' or '.join(map(str, condition.not_in))}{''.join(f', or {word}' for word in null)}"
    if condition.null is not None:
        return f"{name} {'not set' if condition.null == 'null' else 'set'}"
    order = "less" if condition.less_than is not None else "greater"
    return f"{name} {order} than {'' if condition.bound is None else _words(condition.bound)}"
