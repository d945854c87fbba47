"""The statements of one source. Each is built and compiled when it is first needed, and then kept as text.

What a statement is made of is made for it alone, and dropped: SQLAlchemy's objects are not shared between threads.

Sources with the same profile and the same thresholds, on servers alike, share what was compiled: a hundred databases of
one system need it once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect

from reaper.database.dialect import dialect_of
from reaper.profile import Profile
from reaper.profile.real_tables import TableIdentity
from reaper.sql.statement import CompiledStatement, StatementCompiler, Values
from reaper.sql.tables import ProfileTables, identity_values
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.parameters import RuleParameters
from reaper.staleness.rule import Rule

T = TypeVar("T")
Query = Callable[..., ClauseElement]
"""Makes a statement of the rule, and of arguments that choose its form."""


class CompiledStatements:
    """What was made of one profile with one set of thresholds. Released when no source needs it any more."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._made: dict[tuple[Hashable, ...], Any] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], T]) -> T:
        """What `make` makes. It is called once for a key; other threads wait for it."""
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make()
        made: T = self._made[key]
        return made


_in_use: WeakValueDictionary[tuple[Hashable, ...], CompiledStatements] = WeakValueDictionary()
_in_use_lock = threading.Lock()


def _shared_by_equals(profile: Profile, rule_parameters: RuleParameters) -> CompiledStatements:
    """What the sources that have this profile and these parameters have compiled."""
    # By their texts, which name every field: two literals such as 1 and true are equal, but not the same in SQL.
    learnt = repr(profile.byte_columns), repr(profile.column_kinds), profile.zone
    key = repr(profile), profile.lineage, *learnt, repr(rule_parameters)
    with _in_use_lock:
        return _in_use.setdefault(key, CompiledStatements(profile))


class SourceStatements:
    """Thread-safe. A statement is kept by the function that makes it and by that function's arguments.

    The arguments choose between forms of the statement, and are few. Values are parameters.
    """

    def __init__(
        self,
        profile: Profile,
        rule_parameters: RuleParameters,
        schemas: Mapping[str, str] = MappingProxyType({}),
        identities: Mapping[str, TableIdentity] = MappingProxyType({}),
    ) -> None:
        """For `schemas` and `identities` see `reaper.sql.tables.ProfileTables`."""
        self.rule_parameters, self._schemas, self._identities = rule_parameters, schemas, identities
        views = ((name, identity.definition is not None) for name, identity in identities.items())
        self._places = tuple(sorted(schemas.items())), tuple(sorted(views))
        self.identity_values = identity_values(identities)
        """The values of the parameters of a statement that locks jobs."""
        self._compiled = _shared_by_equals(profile, rule_parameters)
        self.profile = self._compiled.profile
        """The very one of which the statements were made: an action is recognized by being the same object."""
        self._server: tuple[Dialect, Hashable] | None = None

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
        key = (self._kind_of_server(dialect), self._places, make, *arguments)
        return self._compiled.get(key, lambda: make(self.new_rule(), StatementCompiler(dialect), *arguments))

    def _kind_of_server(self, dialect: Dialect) -> Hashable:
        if self._server is None or self._server[0] is not dialect:
            self._server = dialect, _kind_of_server(dialect)
        return self._server[1]

    def new_rule(self) -> Rule:
        """The rule, for one thread."""
        return Rule(ProfileTables(self.profile, self._schemas, self._identities), self.rule_parameters)

    def values(self, context: EvaluationContext, previous: EvaluationContext | None = None) -> dict[str, Any]:
        """The values of the rule's parameters. Without a previous evaluation, no job was past its timeout then."""
        return self.rule_parameters.values(context, previous)


def _compiled(rule: Rule, compiler: StatementCompiler, query: Query, *arguments: Hashable) -> CompiledStatement:
    return compiler(query(rule, *arguments))


def _kind_of_server(dialect: Dialect) -> Hashable:
    """What a statement may depend on: the dialect, and what it has learnt of the server when it connected."""
    learnt = {name: value for name, value in vars(dialect).items() if isinstance(value, bool | int | str | tuple)}
    learnt.pop("default_schema_name", None)  # the name of this database; no statement leaves the schema to the server
    return type(dialect), frozenset(learnt.items())
