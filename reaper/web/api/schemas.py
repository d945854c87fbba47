"""What the API takes and gives, common to several endpoints. Durations are seconds; moments are the database's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.model import Evidence, LockHolder, Verdict
from reaper.model import JobCounts as Counted

LARGEST = 2**53 - 1
"""The largest number that every JSON library reads as it is."""


class Model(BaseModel):
    """Exactly these members, in what comes in and in what goes out."""

    # Where JSON says 1 it does not say true, and "1" is a text.
    model_config = ConfigDict(extra="forbid", strict=True)


class Wanted(BaseModel):
    """Parameters of a query: all of them are texts there."""

    model_config = ConfigDict(extra="forbid")


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands last in the annotation of a whole number in a body: JSON does not tell 5.0 from 5."""


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("expected a text without NUL")
    return value


def _reason(value: str) -> str:
    if "\0" in value or not value.strip():
        raise ValueError("expected a reason in words")
    return value


# The patterns are told to programs; people are told sentences.
Text = Annotated[str, AfterValidator(_text), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})]
"""What a database can be told: PostgreSQL knows no NUL."""

SourceName = Annotated[str, Field(min_length=1, max_length=63, description="A source's name.", examples=["default"])]
Why = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        description="Why: it is written where the job's end is told.",
        examples=["its node is gone"],
        json_schema_extra={"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"},
    ),
    AfterValidator(_reason),
]


class Problem(Model):
    """What is wrong."""

    detail: Annotated[str, Field(description="One clear sentence.")]


class Census(Model):
    """The running jobs of a source, counted at one moment."""

    running: int
    past_timeout: int
    stale: int
    spared: Annotated[int, Field(description="Past their timeout, and alive.")]
    oldest_started_epoch: float | None
    most_overdue: Annotated[
        float | None, Field(description="How many times its timeout the job furthest past it has been running; or 0.")
    ]

    @classmethod
    def of(cls, counted: Counted | None) -> Census | None:
        return None if counted is None else cls(**to_jsonable(counted), spared=counted.spared)


class RowHolder(Model):
    """Who holds the row of a job: its transaction is open. What the reaper's role may not see is null."""

    pid: int | None
    application: str | None
    user: str | None
    state: str | None
    since: str | None
    held_seconds: float | None

    @classmethod
    def of(cls, holder: LockHolder | None) -> RowHolder | None:
        return None if holder is None else cls(**to_jsonable(holder))


class Job(Model):
    """What the database knew of one job at one moment, and the verdict that follows from it."""

    source: str
    id: Annotated[str, Field(description="Its name, also in paths: the values of its key with commas between them.")]
    key: Annotated[list[str], Field(description="The values of its key, one for each column.")]
    kind: str | None
    status: str | None
    verdict: Verdict
    why: Annotated[str, Field(description="What the verdict rests on, in words.")]
    started: Annotated[str | None, Field(description="The start that `fail` and `requeue` want to be told.")]
    started_from: str | None
    last_sign: str | None
    witness: Annotated[str | None, Field(description="Where the last sign of life comes from.")]
    age_seconds: float | None
    silence_seconds: float | None
    timeout_seconds: float | None
    timeout_from: str
    stall_seconds: float | None
    stall_from: str
    audible_since: Annotated[str | None, Field(description="What was last heard before it is silent.")]
    deaf_until: Annotated[str | None, Field(description="Silence from before it does not count.")]
    judged_at: str | None
    unknown: Annotated[str | None, Field(description="Which witness could not be asked: the job is spared for it.")]
    stale_in_seconds: Annotated[
        float | None, Field(description="When it becomes stale, if it stays silent; null when it is, or does not run.")
    ]
    signs: Annotated[dict[str, str | None], Field(description="The newest sign of life of each witness.")]
    holder: Annotated[RowHolder | None, Field(description="Who holds the row of a stale job: it is alive.")]

    @classmethod
    def of(cls, source: str, evidence: Evidence, holder: LockHolder | None = None) -> Job:
        members: dict[str, Any] = {
            **to_jsonable(evidence),
            "source": source,
            "id": messages.format_key(evidence.key),
            "key": list(evidence.key),
            "verdict": evidence.verdict,
            "why": messages.describe_verdict(evidence),
            "holder": RowHolder.of(holder),
        }
        return cls(**members)
