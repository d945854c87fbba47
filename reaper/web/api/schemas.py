"""Schemas common to several endpoints. What describes a value of the daemon is made from that value's dataclass.

Durations are seconds; moments are the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, Self, TypeVar, cast, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from reaper.common import messages, reasons
from reaper.common.json_values import to_jsonable
from reaper.model import Evidence, JobCounts, LockHolder
from reaper.sweep.reasons_not_ended import Left, SourceGuards

LARGEST = 2**53 - 1
"""The largest number that every JSON library reads exactly."""


class Model(BaseModel):
    """Exactly these members, in requests and in answers."""

    # A text "1" is no number, and a number 1 is no boolean.
    model_config = ConfigDict(extra="forbid", strict=True)


class Parameters(BaseModel):
    """Parameters of a query: all of them are texts there."""

    model_config = ConfigDict(extra="forbid")


class Mirror(Model):
    """A schema whose members are those of a dataclass (see `mirrors`), and some of its own."""

    @classmethod
    def of(cls, value: object, **own: Any) -> Self:
        """`own` are the members that `value` does not have, or has in another form."""
        members = {name: to_jsonable(getattr(value, name)) for name in cls.model_fields if name not in own}
        return cls(**members, **own)


M = TypeVar("M", bound=Mirror)


def mirrors(
    dataclass: type,
    *,
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
    after: Mapping[str, str] | None = None,
    infinite: Sequence[str] = (),
    described: Mapping[str, str] | None = None,
) -> Callable[[type[M]], type[M]]:
    """Add the fields of a dataclass to a schema: all, or `only` some, or all but those `without`; and never those that
    the schema declares itself.

    A schema's own members come first, or `after` another one. Numbers that may be `infinite` are null then, for JSON
    has no infinity. `described` are descriptions by member.

    Raises ValueError for a name that the dataclass, or the schema, does not have: a field that was renamed must not
    appear in the API by accident.
    """
    hints, descriptions = get_type_hints(dataclass), described or {}
    names = [field.name for field in fields(dataclass)]
    _require_known(dataclass, names, [*(only or ()), *without])

    def extend(schema: type[M]) -> type[M]:
        members: dict[str, Any] = {name: (field.annotation, field) for name, field in schema.model_fields.items()}
        own = set(members)
        for name in only if only is not None else names:
            if name not in members and name not in without:
                hint = hints[name] | None if name in infinite else hints[name]
                members[name] = (hint, Field(description=descriptions.get(name)))
        _require_known(schema, members.keys() - own, [*infinite, *descriptions])
        _require_known(schema, members, [*(after or {}).keys(), *(after or {}).values()])
        order = list(members)
        for name, before in (after or {}).items():
            order.remove(name)
            order.insert(order.index(before) + 1, name)
        made = create_model(
            schema.__name__,
            __base__=Mirror,
            __doc__=schema.__doc__,
            __module__=schema.__module__,
            **{name: members[name] for name in order},
        )
        return cast(type[M], made)

    return extend


def _require_known(owner: type, known: Container[str], names: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{owner.__name__} has no {', '.join(unknown)}")


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands last in the annotation of a whole number in a body: JSON does not tell 5.0 from 5."""


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("expected a text without NUL")
    return value


def _reason(value: str) -> str:
    if not reasons.is_reason(value):
        raise ValueError(reasons.EXPECTED)
    return value


# The patterns are for programs; people get the sentences above.
Text = Annotated[str, AfterValidator(_text), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})]
"""A text that can be sent to a database: PostgreSQL has no NUL."""

SourceName = Annotated[str, Field(min_length=1, max_length=63, description="A source's name.", examples=["default"])]
ReasonText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=reasons.MAX_LENGTH,
        description="Why, on one line. It is written to the audit event.",
        examples=["its node is gone"],
        json_schema_extra={"pattern": reasons.PATTERN},
    ),
    AfterValidator(_reason),
]


class Problem(Model):
    """What is wrong."""

    detail: Annotated[str, Field(description="One clear sentence.")]


@mirrors(
    JobCounts,
    after={"spared": "stale"},
    infinite=["most_overdue"],
    described={
        "most_overdue": "How many times its timeout the job furthest past it has been running; 0 without one.",
        "worker_lost": "Those of the stale jobs that are so only because their worker is gone.",
        "lost_young": "Those of these that are not past their timeout.",
        "workers_gone": "So many workers went at about the same time, and no other one has written a heartbeat lately.",
    },
)
class Census(Mirror):
    """The running jobs of a source, counted at one moment."""

    spared: Annotated[int, Field(description="Past their timeout, and alive.")]


@mirrors(LockHolder)
class RowHolder(Mirror):
    """The session whose open transaction holds a job's row. What the reaper's role may not see is null."""


@mirrors(Left, described={"why": "What is known of it, in words."})
class WhyLeft(Mirror):
    """One reason why a silent job is not ended."""


@mirrors(
    Evidence,
    after={"key": "id", "why": "verdict", "holder": "signs", "left": "holder"},
    infinite=["timeout_seconds", "stall_seconds"],
    described={
        "started": "The start of this run. `fail` and `requeue` expect it.",
        "age_seconds": "How long ago it started; null where that is unknown.",
        "silence_seconds": "How long ago the last sign of life was; null where that is unknown.",
        "last_sign": "The newest sign of life, else the start; null where that is unknown.",
        "witness": "Where the last sign of life comes from.",
        "audible_since": "A job whose last sign of life is older is silent.",
        "deaf_until": "Silence before this moment does not count.",
        "unknown": "The witness that could not be asked, or the column whose moments are unknown. The job is spared.",
        "stale_in_seconds": "When the job becomes stale if it stays silent; null when it is stale or does not run, and "
        "when that is unknown.",
        "signs": "The newest sign of life of each witness; null for none, and where it is unknown.",
        "action": "What a sweep would do with it, where the source's action is a choice between two.",
        "start_lost": "Of a log: no entry starts the job, and its first known entry is taken for its start.",
        "ended_by": "Of a log: the type of the entry that ended the job.",
        "ended_at": "The moment of that entry.",
        "not_running": "Which of the profile's conditions do not hold for a job that does not run, in words.",
        "worker": "The worker that holds it, where the profile has a witness `worker`; null where the job names none.",
        "worker_lost": "Since when that worker is gone, where the job is stale for that alone, in words.",
        "future_sign": "Its newest sign in the future, as written: it counts from when the reaper first saw it.",
    },
)
class Job(Mirror):
    """The evidence on one job at one moment, and the verdict that follows from it."""

    source: str
    id: Annotated[str, Field(description="Its name, also in paths: the values of its key with commas between them.")]
    key: Annotated[list[str], Field(description="The values of its key, one for each column.")]
    why: Annotated[str, Field(description="The reason for the verdict, in words.")]
    holder: Annotated[RowHolder | None, Field(description="The session that holds a stale job's row: it is alive.")]
    left: Annotated[
        list[WhyLeft],
        Field(description="Why it is left although it is silent; empty if the next sweep ends it."),
    ]


def census_of(counts: JobCounts | None) -> Census | None:
    return Census.of(counts) if counts is not None else None


def holder_of(holder: LockHolder | None) -> RowHolder | None:
    return RowHolder.of(holder) if holder is not None else None


def job_of(source: str, evidence: Evidence, guards: SourceGuards, holder: LockHolder | None = None) -> Job:
    return Job.of(
        evidence,
        source=source,
        id=messages.format_key(evidence.key),
        key=list(evidence.key),
        why=messages.describe_verdict(evidence),
        holder=holder_of(holder),
        left=[WhyLeft.of(left) for left in guards.of_job(evidence, holder)],
    )
