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


@mirrors(HaltState, described={"persistent": "It stays halted when the daemon is restarted."})
class Halted(Mirror):
    """Who halted the supervisor, and why."""


@mirrors(
    SourceStatus,
    without=["report"],
    after={"leads": "profile", "outcome": "sweeping", "problems": "succeeded_seconds_ago"},
    described={
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


class SupervisorState(Model):
    """What the supervisor does. While it is HALTED, sweeps end nothing; FINISHED is a schedule that has died."""

    state: State
    halted: Halted | None
    sources: list[SourceStanding]


class HaltParameters(Parameters):
    """How to halt."""

    persist: Annotated[bool, Field(description="Stay halted when the daemon is restarted.")] = False
    reason: Annotated[ReasonText | None, Field(description="Why, for the operator who finds it halted.")] = None


@reading.get(
    "/api/supervisor/state",
    summary="What the supervisor does",
    responses={503: problem("No schedule is configured.")},
)
async def state(service: Service) -> SupervisorState:
    """`RUNNING`, `HALTED` or `FINISHED`, who halted it, and the state of each source."""
    return _state(service)


@steering.post(
    "/api/supervisor/halt",
    summary="Halt the supervisor",
    name="halt",
    responses=problems(409, 500),
)
async def halt(service: Service, audit: Audited, parameters: Annotated[HaltParameters, Query()]) -> SupervisorState:
    """End nothing from now on, and go on looking. Returns at once: a sweep that works ends after its batch."""
    audit.result, audit.details = "halted", parameters.model_dump()
    action = partial(service.actions.halt, audit.who, parameters.reason, persistent=parameters.persist)
    await _run(action, refused=parameters.persist and service.settings.state_dir is None)
    return _state(service)


@steering.post(
    "/api/supervisor/restart",
    summary="Restart the supervisor",
    name="restart",
    responses=problems(500),
)
async def restart(service: Service, audit: Audited) -> SupervisorState:
    """Go on after a halt, or with a new schedule after one that has died. Each source is then swept at once."""
    audit.result = "restarted"
    await _run(service.actions.restart, refused=False)
    return _state(service)


async def _run(action: Callable[[], None], *, refused: bool) -> None:
    """Raises Refused for an error that follows from the settings, and Broken for any other."""
    try:
        await to_thread.run_sync(action, limiter=_halting)
    except ReaperError as error:
        raise (Refused if refused else Broken)(str(error)) from None


def _state(service: AdminService) -> SupervisorState:
    halted, now = service.supervisor.halt_switch.current, service.supervisor.state
    if now is None:
        raise NoSchedule("no schedule is configured")
    return SupervisorState(
        state=now,
        halted=Halted.of(halted) if halted else None,
        sources=[_standing(service.source_status(name)) for name in service.sources],
    )


def _standing(status: SourceStatus) -> SourceStanding:
    report = status.report
    return SourceStanding.of(
        status,
        leads=report.leads if report else None,
        outcome=report.outcome if report else None,
        problems=list(status.problems),
    )
