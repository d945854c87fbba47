"""The schedule of sweeps: its state, halt and restart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query
from pydantic import Field

from reaper.errors import ReaperError
from reaper.memory import HaltRecord as HaltState
from reaper.model import Outcome
from reaper.scheduling.scheduler import State
from reaper.web.actions import Refused
from reaper.web.api.dependencies import Audited, Service, changing_router
from reaper.web.api.errors import Broken, NoSchedule, problem, problems
from reaper.web.api.schemas import Mirror, Model, Parameters, ReasonText, mirrors
from reaper.web.service import AdminService, SourceStatus

reading = APIRouter(tags=["supervisor"])
steering = changing_router("supervisor")

# A halt must not wait for a thread while sweeps and reads have all of them.
_halting = CapacityLimiter(2)
_NO_SCHEDULE = "No schedule is configured; the detail says where."


@mirrors(HaltState, described={"persistent": "It stays halted when the daemon is restarted."})
class Halted(Mirror):
    """Who halted the supervisor, and why."""


@mirrors(
    SourceStatus,
    without=["report"],
    after={
        "leads": "profile",
        "outcome": "sweeping",
        "problems": "succeeded_seconds_ago",
        "available": "problems",
        "unavailable_reason": "available",
    },
    described={
        "unavailable_reason": "Why its database was not reached; null when it was.",
        "sweeping": "A sweep works on it now.",
        "next_seconds": "Until the next sweep; not positive when it is due.",
        "succeeded_seconds_ago": "Since the last sweep that went well.",
    },
)
class SourceStanding(Mirror):
    """The state of a source."""

    leads: Annotated[bool | None, Field(description="This replica sweeps it; null before the first sweep.")]
    outcome: Annotated[Outcome | None, Field(description="Of the last sweep.")]
    problems: Annotated[list[str], Field(description="What keeps it from being ready.")]
    available: Annotated[bool, Field(description="The last sweep reached its database.")]


class SupervisorState(Model):
    """What the supervisor does. While it is HALTED, sweeps end nothing; FINISHED is a schedule that has died."""

    state: State
    halted: Halted | None
    available: Annotated[bool, Field(description="The last sweep of at least one source reached its database.")]
    unavailable_reason: Annotated[str | None, Field(description="Why none was reached; null when one was.")]
    sources: list[SourceStanding]


class HaltParameters(Parameters):
    """How to halt."""

    persist: Annotated[bool, Field(description="Stay halted when the daemon is restarted.")] = False
    reason: Annotated[ReasonText | None, Field(description="Why, for the operator who finds it halted.")] = None


@reading.get(
    "/api/supervisor/state",
    summary="What the supervisor does",
    responses={503: problem(_NO_SCHEDULE)},
)
async def state(service: Service) -> SupervisorState:
    """`RUNNING`, `HALTED` or `FINISHED`, who halted it, and the state of each source.

    While no database can be reached, `available` is false, and halt and restart work all the same.
    """
    return _state(service)


@steering.post(
    "/api/supervisor/halt",
    summary="Halt the supervisor",
    name="halt",
    responses={**problems(409, 500), 503: problem(_NO_SCHEDULE)},
)
async def halt(service: Service, audit: Audited, parameters: Annotated[HaltParameters, Query()]) -> SupervisorState:
    """End nothing from now on, and go on looking. Returns at once: a sweep that works ends after its batch."""
    _require_schedule(service)
    audit.result, audit.details = "halted", parameters.model_dump()
    action = partial(service.actions.halt, audit.who, parameters.reason, persistent=parameters.persist)
    await _run(action, refused=parameters.persist and service.settings.state_dir is None)
    return _state(service)


@steering.post(
    "/api/supervisor/restart",
    summary="Restart the supervisor",
    name="restart",
    responses={**problems(500), 503: problem(_NO_SCHEDULE)},
)
async def restart(service: Service, audit: Audited) -> SupervisorState:
    """Go on after a halt, or with a new schedule after one that has died. Each source is then swept at once."""
    _require_schedule(service)
    audit.result = "restarted"
    await _run(service.actions.restart, refused=False)
    return _state(service)


async def _run(action: Callable[[], None], *, refused: bool) -> None:
    """Raises Refused for an error that follows from the settings, and Broken for any other."""
    try:
        await to_thread.run_sync(action, limiter=_halting)
    except ReaperError as error:
        raise (Refused if refused else Broken)(str(error)) from None


def _require_schedule(service: AdminService) -> State:
    """The supervisor's state. Raises NoSchedule: without a source nothing is swept, halted or restarted."""
    if (state := service.supervisor.state) is not None:
        return state
    if service.settings.without_sources:
        origin = service.settings.origins["sources"]
        raise NoSchedule(f"no schedule is configured: {origin}: sources = []; name a source there and reload")
    raise NoSchedule("no schedule is configured yet: the daemon is starting")


def _state(service: AdminService) -> SupervisorState:
    now, halted = _require_schedule(service), service.supervisor.halt_switch.current
    statuses = [service.source_status(name) for name in service.sources]
    reasons = {status.name: status.unavailable_reason for status in statuses}
    available = not all(reasons.values())
    return SupervisorState(
        state=now,
        halted=Halted.of(halted) if halted else None,
        available=available,
        unavailable_reason=None if available else "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        sources=[_standing(status) for status in statuses],
    )


def _standing(status: SourceStatus) -> SourceStanding:
    report = status.report
    return SourceStanding.of(
        status,
        leads=report.leads if report else None,
        outcome=report.outcome if report else None,
        problems=list(status.problems),
        available=status.unavailable_reason is None,
    )
