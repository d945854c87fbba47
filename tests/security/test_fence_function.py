"""A role that may create functions in the schema never owns the function of a fence, which every writer runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from reaper.errors import ReaperError
from reaper.fence.installation import FenceAction, FenceState, plan_change
from tests.support.fences import install, state
from tests.support.protea import Protea

ROLE = "reaper_test_stranger"
_FUNCTION = "CREATE FUNCTION public.reaper_fence_job() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
_LOOKALIKE = f"{_FUNCTION}; COMMENT ON FUNCTION public.reaper_fence_job() IS 'reaper fence 123: keeps a reaped job'"
_OWNER = "SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'reaper_fence_job'"


@pytest.fixture
def stranger(protea: Protea) -> Iterator[str]:
    """A role that may do no more than create functions beside the table."""
    protea.connection.execute(f"CREATE ROLE {ROLE}; GRANT CREATE, USAGE ON SCHEMA public TO {ROLE}".encode())
    yield ROLE
    protea.connection.execute(f"RESET ROLE; DROP OWNED BY {ROLE} CASCADE; DROP ROLE {ROLE}".encode())


def as_stranger(protea: Protea, statements: str) -> None:
    protea.connection.execute(f"SET ROLE {ROLE}; {statements}; RESET ROLE".encode())


def owner(protea: Protea) -> list[tuple[str, ...]]:
    return protea.connection.execute(_OWNER).fetchall()


def test_function_that_another_role_has_prepared_is_not_taken_for_the_fences(protea: Protea, stranger: str) -> None:
    as_stranger(protea, _LOOKALIKE)
    assert state(protea.source()) is FenceState.FOREIGN
    for action in FenceAction:
        with pytest.raises(ReaperError, match="that the reaper did not create"):
            plan_change(protea.source(), action)
    assert owner(protea) == [(stranger,)]


def test_function_that_another_role_creates_meanwhile_is_not_replaced(protea: Protea, stranger: str) -> None:
    """It would keep its owner."""
    source = protea.source()

    @event.listens_for(source.engine, "before_cursor_execute")
    def _prepare(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FUNCTION" in statement and not owner(protea):
            as_stranger(protea, _LOOKALIKE)

    with pytest.raises(Exception, match="already exists"):
        install(source)
    assert owner(protea) == [(stranger,)]
    assert protea.connection.execute("SELECT FROM pg_trigger WHERE tgname = 'reaper_fence'").fetchall() == []


def test_fence_whose_function_is_another_roles_is_outdated_and_made_again(protea: Protea, stranger: str) -> None:
    source = protea.source()
    install(source)
    protea.connection.execute(f"ALTER FUNCTION reaper_fence_job() OWNER TO {stranger}".encode())
    assert state(source) is FenceState.OUTDATED
    assert install(source) is FenceState.INSTALLED
    assert owner(protea) == [("postgres",)]


def test_role_that_may_put_a_trigger_on_the_table_may_own_the_fence(protea: Protea, stranger: str) -> None:
    protea.connection.execute(f"GRANT TRIGGER ON job TO {stranger}".encode())
    install(protea.source())
    protea.connection.execute(f"ALTER FUNCTION reaper_fence_job() OWNER TO {stranger}".encode())
    assert state(protea.source()) is FenceState.INSTALLED
