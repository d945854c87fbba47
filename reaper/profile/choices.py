"""Choices: for each job one of two actions, by a condition on its row and on the rows that belong to it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from reaper.profile.base import Label, ProfileModel
from reaper.profile.conditions import Conditions, Related


class RelatedCount(Related):
    """At least so many rows of `table` that belong to a job."""

    at_least: Annotated[int, Field(ge=1, strict=True)] = 1


class Choice(ProfileModel):
    """The action `then` for jobs whose row meets every condition of `where` and that have all `rows`, else `else`.

    The condition is evaluated together with the rule, behind the locks.
    """

    where: Conditions = ()
    rows: tuple[RelatedCount, ...] = ()
    then: Label
    otherwise: Annotated[Label, Field(alias="else")]

    @model_validator(mode="after")
    def _has_condition(self) -> Choice:
        if not self.where and not self.rows:
            raise ValueError("expected 'where' or 'rows', which say for which jobs 'then' is taken")
        if self.then == self.otherwise:
            raise ValueError(f"'then' and 'else' are both {self.then!r}: there is nothing to choose")
        return self
