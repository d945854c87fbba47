"""The statements of one source. Each is built and compiled when it is first needed, and then kept as text.

What a statement is made of is made for it alone, and dropped: SQLAlchemy's objects are not shared between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect

from reaper.database.dialect import dialect_of
from reaper.profile import Profile
from reaper.sql.statement import CompiledStatement, StatementCompiler, Values
from reaper.sql.tables import ProfileTables
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.parameters import RuleParameters
from reaper.staleness.rule import Rule

T = TypeVar("T")
Query = Callable[..., ClauseElement]
"""Makes a statement of the rule, and of arguments that choose its form."""


class SourceStatements:
    """Thread-safe. A statement is kept by the function that makes it and by that function's arguments.

    The arguments choose between forms of the statement, and are few. Values are parameters.
    """

    def __init__(self, profile: Profile, rule_parameters: RuleParameters) -> None:
        self.profile, self.rule_parameters = profile, rule_parameters
        self._kept: dict[tuple[Hashable, ...], Any] = {}
        self._lock = threading.Lock()

    def execute(self, connection: Connection, values: Values, query: Query, *arguments: Hashable) -> CursorResult[Any]:
        """Run the statement that `query` makes. Its rows have the driver's values. Raises DBAPIError."""
        return self.compiled(connection.dialect, query, *arguments).execute(connection, values)

    def stream(
        self, connection: Connection, values: Values, query: Query, *arguments: Hashable
    ) -> Iterator[Sequence[Any]]:
        """The rows one after the other, never all in memory. Raises DBAPIError."""
        text, parameters = self.compiled(connection.dialect, query, *arguments).bound(values)
        return dialect_of(connection).stream(connection, text, parameters)

    def compiled(self, dialect: Dialect, query: Query, *arguments: Hashable) -> CompiledStatement:
        """The statement that `query` makes of the rule and these arguments."""
        return self.get(dialect, _compiled, query, *arguments)

    def get(self, dialect: Dialect, make: Callable[..., T], *arguments: Hashable) -> T:
        """What `make` makes of a rule, a compiler and these arguments. It is called once; other threads wait for it."""
        key = (make, *arguments)
        if key not in self._kept:
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = make(self.new_rule(), StatementCompiler(dialect), *arguments)
        made: T = self._kept[key]
        return made

    def new_rule(self) -> Rule:
        """The rule, for one thread."""
        return Rule(ProfileTables(self.profile), self.rule_parameters)

    def values(self, context: EvaluationContext, previous: EvaluationContext | None = None) -> dict[str, Any]:
        """The values of the rule's parameters. Without a previous evaluation, no job was past its timeout then."""
        return self.rule_parameters.values(context, previous)


def _compiled(rule: Rule, compiler: StatementCompiler, query: Query, *arguments: Hashable) -> CompiledStatement:
    return compiler(query(rule, *arguments))
