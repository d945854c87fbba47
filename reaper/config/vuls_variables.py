"""The URLs that vuls' own documents give its programs: used for sources of vuls where no setting gives one.

They are the variables of another application. So they serve only sources with a profile of vuls, never hide a setting,
and one of another kind of server is left alone: it was not meant for the reaper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from reaper.config.url_lookup import ResolvedUrl
from reaper.config.urls import BROKERS, DATABASES, normalise_broker_url, normalise_database_url

DATABASE_VARIABLES = ("DATABASE_URL",)
BROKER_VARIABLES = ("CELERY_BROKER_URL", "REDIS_URL")
"""The first that is set counts."""


@dataclass
class BorrowedUrls:
    """What is wrong is added to `problems`; a line for each variable that is left alone, to `notes`."""

    environ: Mapping[str, str]
    problems: list[str]
    notes: list[str] = field(default_factory=list)

    def database(self) -> ResolvedUrl | None:
        """The URL of the database; None where there is none."""
        return self._first(DATABASE_VARIABLES, frozenset(DATABASES), normalise_database_url, "database")

    def broker(self) -> ResolvedUrl | None:
        """The URL of Celery's broker; None where there is none."""
        return self._first(BROKER_VARIABLES, BROKERS, normalise_broker_url, "broker")

    def _first(
        self, variables: tuple[str, ...], schemes: frozenset[str], normalise: Callable[[str], str], what: str
    ) -> ResolvedUrl | None:
        for variable in variables:
            value = self.environ.get(variable, "").strip()
            if not value:
                continue
            if value.partition("://")[0].casefold() not in schemes:
                self._note(f"{variable} is ignored: it is not the URL of a {what} that the reaper supports")
                continue
            return self._normalised(variable, value, normalise)
        return None

    def _normalised(self, variable: str, value: str, normalise: Callable[[str], str]) -> ResolvedUrl:
        try:
            return ResolvedUrl(SecretStr(normalise(value)), variable, borrowed=True)
        except ValueError as error:
            if (problem := f"{variable}: {error}") not in self.problems:
                self.problems.append(problem)
            return ResolvedUrl(None, variable, borrowed=True)

    def _note(self, note: str) -> None:
        if note not in self.notes:  # several sources may ask
            self.notes.append(note)
