"""The job systems of the shipped profiles, each as a world that jobs can be made in. One suite runs in all of them."""

from tests.worlds.adhese import AdheseDeleteWorld, AdheseScheduleWorld, AdheseWorld
from tests.worlds.database import Database, Deadlock, Session
from tests.worlds.noetl import NoetlWorld
from tests.worlds.protea import ProteaWorld
from tests.worlds.vuls import VulsScheduleWorld, VulsWorld
from tests.worlds.world import State, World

WORLDS: tuple[type[World], ...] = (
    ProteaWorld,
    NoetlWorld,
    AdheseWorld,
    AdheseDeleteWorld,
    AdheseScheduleWorld,
    VulsWorld,
    VulsScheduleWorld,
)

__all__ = ["WORLDS", "Database", "Deadlock", "Session", "State", "World"]
