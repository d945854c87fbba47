"""Test fixtures for the job systems of the shipped profiles. One test suite runs against all of them."""

from tests.support.worlds.adhese import AdheseDeleteWorld, AdheseScheduleWorld, AdheseWorld
from tests.support.worlds.chancy import ChancyRequeueWorld, ChancyWorld
from tests.support.worlds.database import Database, Deadlock, Session
from tests.support.worlds.noetl import NoetlTodayWorld, NoetlWorld
from tests.support.worlds.pgqueuer import PgqueuerRequeueWorld, PgqueuerWorld
from tests.support.worlds.protea import ProteaTodayWorld, ProteaWorld
from tests.support.worlds.vuls import VulsScheduleWorld, VulsWorld
from tests.support.worlds.world import State, World

WORLDS: tuple[type[World], ...] = (
    ProteaWorld,
    ProteaTodayWorld,
    NoetlWorld,
    NoetlTodayWorld,
    AdheseWorld,
    AdheseDeleteWorld,
    AdheseScheduleWorld,
    VulsWorld,
    VulsScheduleWorld,
    PgqueuerWorld,
    PgqueuerRequeueWorld,
    ChancyWorld,
    ChancyRequeueWorld,
)

__all__ = ["WORLDS", "Database", "Deadlock", "Session", "State", "World"]
