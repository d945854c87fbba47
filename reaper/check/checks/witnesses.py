"""Checks that a profile has a witness: without one, the living are ended at their timeout. Reads the catalog alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from reaper.catalog.tables import Column
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, warning
from reaper.model import StoredTime, TimestampFormat
from reaper.profile.column_usage import timestamp_columns

_HEARTBEATS = frozenset({"heartbeat", "heartbeats", "beat", "heard", "seen", "alive", "keepalive", "ping", "pinged"})
_CHANGES = frozenset(
    {"activity", "active", "progress", "progressed", "refreshed", "touched", "updated", "update", "modified", "changed"}
)
_DEADLINES = frozenset({"expires", "expire", "expiry", "expiration", "until", "deadline", "lease", "visible"})
_WORKERS = frozenset({"worker", "workers", "node", "host", "hostname", "server", "instance", "runner", "executor"})
"""Words in the names of columns: when a worker was last heard of, when a row was last changed, until when a worker has
it, and whose it is."""
_MOMENT_WORDS = frozenset({"at", "ts", "time", "timestamp", "epoch", "ms", "date"})
_FORMATS = {
    "timestamptz": TimestampFormat.TIMESTAMPTZ,
    "timestamp": TimestampFormat.NAIVE,
    "datetime": TimestampFormat.NAIVE,
}
_NUMBERS = ("integer", "number")
_MOST_PROPOSED = 3


def check_witnesses(context: CheckContext) -> Iterator[Finding]:
    """Finds nothing in a profile with a witness, and where the table is missing: another check reports that."""
    table, real = context.profile.jobs.table, context.tables.get(context.profile.jobs.table)
    if context.profile.alive or real is None:
        return
    message = "the profile has no witness: a job that lives is ended as soon as it runs for longer than its timeout"
    proposed = _proposed(context, list(real.columns.values()))
    if proposed:
        context.corrections.alive += [witness for witness, _ in proposed]
        for column in (column for _, column in proposed if column.family in _FORMATS):
            if context.profile.said_time(table, column.name).format is not _FORMATS[column.family]:
                context.corrections.times[f"{table}.{column.name}"] = StoredTime(_FORMATS[column.family])
        names = listed(f"{column.name} ({column.type})" for _, column in proposed)
        message += f". By name and type, {names} may show life: keep in alive what workers write while they work"
    else:
        message += (
            ". No column looks like a sign of life: let workers write one, or make the timeout longer than any job"
        )
    if workers := [name for name in real.columns if _words(name) & _WORKERS]:
        message += (
            f". {listed(workers)} may name a job's worker: if a table has the workers' heartbeats, it can be a witness "
            f'(worker, match = {{ id = "{workers[0]}" }})'
        )
    yield warning(table, message, OVERRIDE if proposed else None)


def _proposed(context: CheckContext, columns: list[Column]) -> list[tuple[dict[str, Any], Column]]:
    """Witnesses, the most telling first, each with its column. Columns that the profile reads already are no news."""
    table = context.profile.jobs.table
    known = {column for name, column, read in timestamp_columns(context.profile) if name == table and read}
    found = []
    for rank, (words, kind) in enumerate(((_HEARTBEATS, "column"), (_CHANGES, "column"), (_DEADLINES, "deadline"))):
        for column in columns:
            named = _words(column.name) & words and not _words(column.name) & (_DEADLINES - words)
            if named and column.name not in known and _may_be_moment(context, column):
                found.append((rank, {"witness": column.name, kind: column.name}, column))
    return [(witness, column) for _, witness, column in sorted(found, key=lambda one: one[0])][:_MOST_PROPOSED]


def _may_be_moment(context: CheckContext, column: Column) -> bool:
    """A moment by its type, or a number by its name where the profile's moments are numbers: a percentage is none."""
    if column.family in _FORMATS:
        return True
    epochs = context.profile.said_time(context.profile.jobs.table, column.name).format in (
        TimestampFormat.EPOCH_S,
        TimestampFormat.EPOCH_MS,
    )
    named = bool(_words(column.name) & (_MOMENT_WORDS | _HEARTBEATS))
    return column.family in _NUMBERS and epochs and named


def _words(name: str) -> set[str]:
    """The words of a name, in lower case: `lastHeartbeatAt` and `last_heartbeat_at` have the same."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))
