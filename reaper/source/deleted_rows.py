"""The rows that an action deletes, as they were: read behind the locks and before the transition, for the log.

Between this reading and the delete, in one transaction, others can do this:

- A worker or an operator who changes one of these rows waits, or was before us, where the profile has the table among
  `jobs.parts`: those rows are locked. Of a table that is not, a row may change unseen, and the log has its older state.
- A worker who inserts a row that belongs to the job needs a key-share lock on the job's row where a foreign key refers
  to it, and waits for our commit. Without a foreign key, a row may come that is deleted and not in the log.
- A second reaper skips the locked jobs. After a kill or a failover nothing is deleted, and nothing is logged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, FromClause, Select, func, select

from reaper.model import DeletedRows, Key
from reaper.profile import Action, Delete, Profile
from reaper.source.statements import Query, SourceStatements
from reaper.sql import expressions as sql
from reaper.sql.keys import key_parameters
from reaper.sql.tables import reserved_alias
from reaper.staleness.rule import Rule

MAX_ROWS = 20
"""How many rows of one table are kept for one job."""
MAX_LENGTH = 200
"""How many characters of one value are kept."""


def read_deleted_rows(
    statements: SourceStatements, connection: Connection, action: Action, keys: Sequence[Key]
) -> dict[Key, list[DeletedRows]]:
    """By job, for jobs that the caller has locked; empty where the action deletes nothing to be kept."""
    kept, width = defaultdict[Key, list[DeletedRows]](list), len(statements.profile.jobs.key)
    for table, columns, query, arguments in deleted_row_queries(statements.profile, [action]):
        totals, rows = dict[Key, int](), defaultdict[Key, list[dict[str, str | None]]](list)
        for row in statements.execute(connection, key_parameters(keys), query, *arguments):
            key = tuple(row[:width])
            totals[key] = row.total
            rows[key].append(dict(zip(columns, map(_cut, row[width:-2]), strict=True)))
        for key, total in totals.items():
            kept[key].append(DeletedRows(table, total, rows[key]))
    return kept


class DeletedRowQuery(NamedTuple):
    """The table and the kept columns of rows that an action deletes; what makes the statement that reads them."""

    table: str
    columns: Sequence[str]
    query: Query
    arguments: tuple[Hashable, ...]


def deleted_row_queries(profile: Profile, actions: Sequence[Action]) -> Iterator[DeletedRowQuery]:
    """One for each table that one of the actions deletes rows of."""
    names = [name for name, action in profile.actions.items() if any(action is chosen for chosen in actions)]
    for name in names:
        action = profile.actions[name]
        if action.keep:
            yield DeletedRowQuery(profile.jobs.table, action.keep, _job_query, (name,))
        for n, step in enumerate(action.also):
            if isinstance(step, Delete) and step.keep:
                yield DeletedRowQuery(step.table, step.keep, _step_query, (name, n))


def _job_query(rule: Rule, action: str) -> Select[Any]:
    jobs = rule.tables.jobs
    return _first_rows(rule, jobs, jobs, rule.tables.profile.actions[action].keep)


def _step_query(rule: Rule, action: str, number: int) -> Select[Any]:
    tables, step = rule.tables, rule.tables.profile.actions[action].also[number]
    if not isinstance(step, Delete):
        raise TypeError("only a delete has deleted rows")
    row = tables.table(step.table).alias(reserved_alias("deleted"))
    joined = tables.jobs.join(row, tables.belongs_to_job(step, row, tables.jobs))
    return _first_rows(rule, joined, row, step.keep)


def _first_rows(rule: Rule, rows: FromClause, row: FromClause, columns: Sequence[str]) -> Select[Any]:
    """The first rows of each job of a batch."""
    tables, jobs = rule.tables, rule.tables.jobs
    key = tables.key(jobs)
    numbered = (
        select(
            *(text.label(f"text_{n}") for n, text in enumerate(tables.key_text(jobs))),
            *(
                func.substr(sql.text_of(row.c[name]), 1, MAX_LENGTH + 1).label(f"kept_{n}")
                for n, name in enumerate(columns)
            ),
            func.count().over(partition_by=key).label("total"),
            func.row_number().over(partition_by=key).label("number"),
        )
        .select_from(rows)
        .where(tables.key_in_batch(jobs), tables.is_job(jobs))
        .subquery(reserved_alias("numbered"))
    )
    return select(numbered).where(numbered.c.number <= MAX_ROWS)


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= MAX_LENGTH else f"{value[:MAX_LENGTH]}…"
