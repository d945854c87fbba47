"""The words by which people name columns and states of job tables, whatever their style of writing."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


def words(name: str) -> tuple[str, ...]:
    """The words of a name: `startedAt`, `STARTED_AT` and `started-at` have the same two."""
    return tuple(word.casefold() for word in _WORD.findall(name))


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


class Moment(StrEnum):
    """What a moment in a job's row is the moment of."""

    DELETED = "deleted"
    DEADLINE = "deadline"
    PLANNED = "planned"
    ALIVE = "sign of life"
    FINISHED = "end"
    STARTED = "start"
    CREATED = "creation"
    CHANGED = "change"


_MOMENTS = {
    # In this order: `lock_expires_at` is a deadline, `next_start` is planned, `last_seen_started` is a sign of life.
    Moment.DELETED: _set("deleted archived removed"),
    Moment.DEADLINE: _set("expires expiry expire expiration deadline until lease visible"),
    Moment.PLANNED: _set("scheduled schedule due next after before planned eta available"),
    Moment.ALIVE: _set(
        "heartbeat heartbeats beat hb ping pinged seen alive keepalive progress progressed touched refreshed"
    ),
    Moment.FINISHED: _set(
        "finished finish ended end completed complete done closed stopped finalized terminated succeeded failed "
        "cancelled canceled discarded"
    ),
    Moment.STARTED: _set(
        "started start begun began begin picked claimed locked taken attempted dequeued reserved acquired launched"
    ),
    Moment.CREATED: _set("created create inserted enqueued queued submitted added made requested received"),
    Moment.CHANGED: _set("updated update modified changed change"),
}


def moment_of(name: str) -> Moment | None:
    """What the name of a column says of its moments."""
    there = set(words(name))
    if {"run", "at"} <= there:
        return Moment.PLANNED
    return next((moment for moment, known in _MOMENTS.items() if there & known), None)


class StateMeaning(StrEnum):
    """What a state of a job means."""

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


_FAILED = (
    "failed", "failure", "fail", "errored", "error", "dead", "crashed", "aborted", "broken", "timedout", "timeout",
    "lost", "killed", "exhausted",
)  # fmt: skip
"""The plainest word first; so below."""
_GIVEN_UP = ("discarded", "cancelled", "canceled", "revoked", "terminated", "stopped", "expired", "skipped")
_STATES = {
    StateMeaning.RUNNING: _set(
        "running run working work inprogress progress processing process active executing started starting picked "
        "doing busy claimed taken reserved locked leased ongoing wip"
    ),
    StateMeaning.WAITING: _set(
        "pending queued waiting wait new ready available scheduled created todo enqueued retry retryable retrying idle "
        "submitted init initial blocked paused held delayed inactive unstarted"
    ),
    StateMeaning.DONE: _set("done succeeded success successful completed complete finished ok closed ended processed"),
    StateMeaning.FAILED: frozenset([*_FAILED, *_GIVEN_UP]),
}


def state_of(value: str) -> StateMeaning | None:
    """What the word for a state means. `not started` and `to do` are no running ones."""
    there = words(value)
    joined = "".join(there)
    if there[:1] in (("not",), ("to",)):
        return StateMeaning.WAITING
    exact = next((state for state, known in _STATES.items() if joined in known), None)
    return exact or next((state for state, known in _STATES.items() if set(there) & known), None)


def failed_first(values: Collection[str]) -> list[str]:
    """Those that mean that a job has failed, or was given up: the plainest word first."""
    order = [*_FAILED, *_GIVEN_UP]
    ranked = [(min((order.index(w) for w in _forms(value) if w in order), default=None), value) for value in values]
    return [value for _, value in sorted((rank, value) for rank, value in ranked if rank is not None)]


def _forms(value: str) -> Sequence[str]:
    there = words(value)
    return (*there, "".join(there))


IS_STATE = _set("state status stage phase")
IS_WORKER = _set("worker owner host hostname node runner consumer executor instance")
IS_MESSAGE = _set("error err message msg failure exception traceback reason note")
IS_CODE = _set("code type class kind")
IS_PARENT = _set("parent")
KINDS = (
    "kind", "jobkind", "jobtype", "tasktype", "type", "jobclass", "taskname", "jobname", "operation", "entrypoint",
    "handler", "function", "func", "class", "action", "command", "task", "job", "name", "title",
)  # fmt: skip
"""Names of the column with a job's kind, the best first."""
QUEUES = ("queue", "queuename", "channel", "topic", "lane")
UNITS = {
    **dict.fromkeys(("ms", "millis", "milliseconds", "msec"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minutes"), "m"),
    **dict.fromkeys(("h", "hours"), "h"),
}


def joined(name: str) -> str:
    """The words of a name as one."""
    return "".join(words(name))


def is_holder(name: str) -> bool:
    """Whether a column says which worker has a job, or by which claim."""
    there = words(name)
    taken = bool(set(there) & _MOMENTS[Moment.STARTED] | set(there) & {"lock", "claim", "lease"})
    return bool(IS_WORKER & set(there)) or (taken and there[-1] in ("by", "id", "token", "pid"))


def is_run_limit(name: str) -> bool:
    """Whether a column says for how long its job may run."""
    there = set(words(name))
    return "timeout" in there or bool({"max", "limit"} & there and {"runtime", "duration", "run", "time"} & there)
