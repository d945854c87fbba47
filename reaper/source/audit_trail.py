"""Reads the audit events of a job's earlier reaps. `reaper.source.transition.audit_event` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, case, func, select

from reaper.profile import Profile
from reaper.profile.audit_events import audit_inserts, evidence_path, moments_of
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.sql.types import document_of
from reaper.staleness.rule import Rule

_MAX_EVENTS = 10
_MAX_BYTES = 20_000


def audit_tables(profile: Profile) -> Sequence[str]:
    """The tables with audit events that have the evidence."""
    return tuple(audit_inserts(profile))


class AuditEvent(NamedTuple):
    """What one reap wrote: its evidence, and the moment at which the event was written; None where it has none."""

    evidence: dict[str, Any]
    written_at: str | None


def read_audits(rows: Iterable[Sequence[Any]]) -> Iterator[AuditEvent]:
    """The rows of `audit_query`."""
    for document, moment in rows:
        evidence = document_of(document)
        if isinstance(evidence, dict):
            yield AuditEvent(evidence, document_of(moment)["at"])


def audit_query(rule: Rule, table: str) -> Select[Any]:
    """The newest audit events of one job in one of `audit_tables`, newest first: the evidence and the moment."""
    tables, insert = rule.tables, audit_inserts(rule.tables.profile)[table]
    jobs, events = tables.jobs, tables.table(insert.table).alias(reserved_alias("audit"))
    of_job = tables.inserted_for_job(insert, events, jobs)
    column, *members = evidence_path(insert)
    evidence = sql.json_member(events.c[column], members)
    moments = [tables.instant(insert.table, events, name) for name in moments_of(insert)]
    written_at = sql.newest(*moments) if moments else sql.null_instant()
    query = select(_bounded(evidence), sql.json_object({"at": written_at})).select_from(
        events.join(jobs, and_(*of_job))
    )
    query = query.where(tables.key_in_batch(jobs), tables.is_job(jobs))
    query = query.order_by(*(events.c[name].desc() for name in moments_of(insert)))
    return query.limit(_MAX_EVENTS)


def _bounded(evidence: Element) -> Element:
    """The evidence, or a message in its place where it is far longer than any that the reaper writes."""
    bytes_ = func.octet_length(sql.text_of(evidence))
    message = sql.concat("an event of ", sql.text_of(bytes_), " bytes, which is too long to be read")
    return case((bytes_ > _MAX_BYTES, sql.json_object({"message": message})), else_=evidence)
