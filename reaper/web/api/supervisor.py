"""The schedule of sweeps: what it does, and who halts it and has it go on."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query
from pydantic import Field

from reaper.errors import ReaperError
from reaper.model import Outcome
from reaper.scheduling.scheduler import State
from reaper.web.actions import Refused
from reaper.web.api.dependencies import AtDesk, Audit, changing_router
from reaper.web.api.errors import Broken, NoSchedule, problem, problems
from reaper.web.api.schemas import Model, Wanted, Why
from reaper.web.service import AdminService, SourceStatus

reading = APIRouter(tags=["supervisor"])
steering = changing_router("supervisor")

# Whoever halts must not wait for a thread that those who sweep and look have taken.
_steering = CapacityLimiter(2)


class Halted(Model):
    """Who halted the supervisor, and why."""

    by: str
    reason: str | None
    persistent: Annotated[bool, Field(description="It stays halted when the daemon is started anew.")]


class SourceStanding(Model):
    """How a source stands."""

    name: str
    profile: str
    leads: Annotated[bool | None, Field(description="This replica sweeps it; null before the first sweep.")]
    sweeping: Annotated[bool, Field(description="It is being swept just now.")]
    outcome: Annotated[Outcome | None, Field(description="Of the last sweep.")]
    next_seconds: Annotated[float | None, Field(description="Until the next sweep; not positive when it is due.")]
    succeeded_seconds_ago: Annotated[float | None, Field(description="Since the last sweep that went well.")]
    problems: Annotated[list[str], Field(description="What keeps it from being ready.")]


class SupervisorState(Model):
    """What the supervisor does. While it is HALTED sweeps only look; FINISHED is a schedule that has died."""

    state: State
    halted: Halted | None
    sources: list[SourceStanding]


class HaltWanted(Wanted):
    """How to halt."""

    persist: Annotated[bool, Field(description="Stay halted when the daemon is started anew.")] = False
    reason: Annotated[Why | None, Field(description="Why, for whoever finds it halted.")] = None


@reading.get(
    "/api/supervisor/state",
    summary="What the supervisor does",
    responses={503: problem("No schedule is configured.")},
)
async def state(service: AtDesk) -> SupervisorState:
    """`RUNNING`, `HALTED` or `FINISHED`, who halted it, and how each source stands."""
    return _told(service)


@steering.post(
    "/api/supervisor/halt",
    summary="Halt the supervisor",
    name="halt",
    responses=problems(409, 500),
)
async def halt(service: AtDesk, deed: Audit, wanted: Annotated[HaltWanted, Query()]) -> SupervisorState:
    """End nothing from now on, and go on looking. Returns at once: a sweep that works ends after its batch."""
    deed.result, deed.details = "halted", wanted.model_dump()
    order = partial(service.admin_actions.halt, deed.who, wanted.reason, persistent=wanted.persist)
    await _steered(service, order, to_last=wanted.persist)
    return _told(service)


@steering.post(
    "/api/supervisor/restart",
    summary="Restart the supervisor",
    name="restart",
    responses=problems(500),
)
async def restart(service: AtDesk, deed: Audit) -> SupervisorState:
    """Go on after a halt, or with a new schedule after one that has died. Each source is then swept at once."""
    deed.result = "restarted"
    await _steered(service, service.admin_actions.restart, to_last=False)
    return _told(service)


async def _steered(service: AdminService, order: Any, *, to_last: bool) -> None:
    try:
        await to_thread.run_sync(order, limiter=_steering)
    except ReaperError as error:
        nowhere = to_last and service.settings.state_dir is None
        raise (Refused if nowhere else Broken)(str(error)) from None


def _told(service: AdminService) -> SupervisorState:
    halted, now = service.supervisor.halt_switch.current, service.supervisor.state
    if now is None:
        raise NoSchedule("no schedule is configured")
    return SupervisorState(
        state=now,
        halted=Halted(by=halted.by, reason=halted.reason, persistent=halted.persistent) if halted else None,
        sources=[_standing(service.standing(name)) for name in service.sources],
    )


def _standing(found: SourceStatus) -> SourceStanding:
    report = found.report
    return SourceStanding(
        name=found.name,
        profile=found.profile,
        leads=report.leads if report else None,
        sweeping=found.sweeping,
        outcome=report.outcome if report else None,
        next_seconds=found.next_seconds,
        succeeded_seconds_ago=found.succeeded_seconds_ago,
        problems=list(found.problems),
    )
