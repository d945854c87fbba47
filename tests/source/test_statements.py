"""The statements of a source are compiled once, whatever their values. Sources and threads share their text alone."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

import pytest
from sqlalchemy import ClauseElement, Connection, Dialect, TextClause
from sqlalchemy.event import listens_for
from sqlalchemy.sql.compiler import Compiled

from reaper.liveness import LivenessReport
from reaper.model import KindThresholds, ServerClock, Threshold, Thresholds
from reaper.operations.explain import explain
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.report import ReportQuery, report
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.source.survey import candidates_query
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.sql.statement import CompiledStatement, StatementCompiler
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.listeners import NullListener
from tests.support.protea import HOUR, PATIENCE, Protea, thresholds
from tests.support.worlds import World
from tests.support.worlds.servers import only_where, repeats_a_shape

OPTIONS = SourceOptions(queues=("celery",), max_age=9 * HOUR)
DECISION = ManualEnd(operator="tester", host="test-host", reason="its node is gone")


@dataclass
class Compilations:
    """The texts of the statements that were compiled, in order."""

    texts: list[str] = field(default_factory=list)

    @property
    def repeated(self) -> list[str]:
        return [text for text, count in Counter(self.texts).items() if count > 1]


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Compilations:
    # Those that other tests have left are compiled once more.
    monkeypatch.setattr("reaper.source.statements._in_use", WeakValueDictionary())
    recorded, compile_statement = Compilations(), StatementCompiler.__call__

    def record(compiler: StatementCompiler, clause: ClauseElement) -> CompiledStatement:
        statement = compile_statement(compiler, clause)
        recorded.texts.append(statement.text)
        return statement

    monkeypatch.setattr(StatementCompiler, "__call__", record)
    return recorded


def use(world: World, source: Source) -> None:
    """Sweep, and report and explain what is left."""
    world.stale_job()
    alive = world.alive_job()
    swept = world.sweep(source)
    assert (swept.reaped, swept.error) == (1, None)
    report(source, DowntimeTracker(0), ReportQuery(None, None, 10))
    explain(source, DowntimeTracker(0), alive)


@only_where(lambda world: world.action == "fail", repeats=repeats_a_shape)
def test_statements_are_compiled_once_per_source(world: World, compilations: Compilations) -> None:
    source = world.source()
    use(world, source)
    assert compilations.texts and not compilations.repeated
    compiled = len(compilations.texts)
    use(world, source)
    assert len(compilations.texts) == compiled
    source.close()


def test_sources_with_one_profile_share_what_one_of_them_has_compiled(
    protea: Protea, compilations: Compilations
) -> None:
    one, other = protea.source(), protea.source(name="other")
    compiled = list[int]()
    for source in (one, other):
        protea.stale()
        assert protea.sweep(source).reaped == 1
        compiled.append(len(compilations.texts))
    assert compiled[0] == compiled[1] > 0


def stating(status: object) -> Profile:
    """The profile, with another literal in its transition."""
    return resolve("own", {"own": {"extends": "vuls", "actions": {"fail": {"set": {"status": status}}}}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"options": SourceOptions(queues=("celery", "slow"), max_age=9 * HOUR)}),
        ({}, {"options": SourceOptions(queues=("celery",), max_age=8 * HOUR)}),
        ({}, {"limits": thresholds(stall=2 * HOUR)}),
        ({"profile": stating(1)}, {"profile": stating(2)}),
        ({"profile": stating(1)}, {"profile": stating(True)}),
        ({}, {"url": "mariadb+pymysql://x@127.0.0.1/x"}),
    ],
    ids=["queues", "maximum age", "threshold", "literal", "type of a literal", "kind of server"],
)
def test_sources_that_differ_share_nothing(
    one: dict[str, Any], other: dict[str, Any], compilations: Compilations
) -> None:
    sources = [offline_source(**one), offline_source(**other)]
    first, second = (source.statements.compiled(source.engine.dialect, candidates_query) for source in sources)
    assert first is not second and len(compilations.texts) == 2


def test_server_that_has_told_the_dialect_something_else_has_statements_of_its_own(compilations: Compilations) -> None:
    """Such as a server of another version."""
    one, other, same = (offline_source() for _ in range(3))
    one.engine.dialect.server_version_info = same.engine.dialect.server_version_info = (18, 4)
    other.engine.dialect.server_version_info = (14, 1)
    for source in (one, other, same):
        source.statements.compiled(source.engine.dialect, candidates_query)
    assert len(compilations.texts) == 2


def test_statements_are_released_with_the_last_source_that_needs_them(compilations: Compilations) -> None:
    for _ in range(2):
        source = offline_source()
        source.statements.compiled(source.engine.dialect, candidates_query)
        del source
        gc.collect()
    assert len(compilations.texts) == 2


def test_end_by_hand_compiles_its_transition_and_shares_the_locks(protea: Protea, compilations: Compilations) -> None:
    source = protea.source()
    protea.stale()
    assert protea.sweep(source).reaped == 1
    swept = len(compilations.texts)
    for _ in range(2):
        fail(source, DowntimeTracker(0), (protea.job(),), DECISION, NullListener())
    assert len(compilations.texts) == swept + 1


def test_used_source_sends_the_server_no_statement_that_sqlalchemy_has_to_compile(protea: Protea) -> None:
    """Apart from constant texts, such as that of the transaction's settings."""
    source, executed = protea.source(), list[ClauseElement]()

    @listens_for(source.engine, "before_execute")
    def note(_connection: Connection, clause: ClauseElement, *_rest: object) -> None:
        executed.append(clause)

    for _ in range(2):
        executed.clear()
        protea.stale()
        assert protea.sweep(source).reaped == 1
        assert executed and all(isinstance(clause, TextClause) for clause in executed)


def test_threads_that_need_a_statement_at_once_compile_it_once(compilations: Compilations) -> None:
    source, together = offline_source(), Barrier(8)

    def compiled() -> CompiledStatement:
        together.wait()
        return source.statements.compiled(source.engine.dialect, candidates_query)

    with ThreadPoolExecutor(8) as pool:
        statements = [future.result() for future in [pool.submit(compiled) for _ in range(8)]]
    assert len(set(map(id, statements))) == len(compilations.texts) == 1


def offline_source(
    url: str = "postgresql+psycopg://x@127.0.0.1/x",
    profile: Profile | None = None,
    limits: Thresholds | None = None,
    options: SourceOptions = OPTIONS,
) -> Source:
    kinds = {f"kind {n}": KindThresholds(timeout=Threshold(n * HOUR, "here")) for n in range(1, 4)}
    return Source("main", url, profile or resolve("vuls"), limits or thresholds(kinds=kinds), PATIENCE, options)


# --- what the text does not depend on --------------------------------------------------------------------------------


def contexts(source: Source) -> Iterator[EvaluationContext]:
    """Moments with and without downtime, and with everything that Celery's workers may have answered."""
    started, downtime = datetime(2000, 1, 1, tzinfo=UTC), DowntimeTracker(0)
    downtime.record_contact(ServerClock(now=started, server_started=started))
    yield EvaluationContext.of(downtime, source.thresholds)
    for hour in range(1, 4):
        downtime.record_failure()
        moment = started + timedelta(hours=hour)
        downtime.record_contact(ServerClock(now=moment, server_started=moment))
        yield (context := EvaluationContext.of(downtime, source.thresholds))
    for liveness in (
        LivenessReport(trouble="no reply in 5 s"),
        LivenessReport(alive=frozenset({"a", "b"}), executing={"a": "w"}, queues=frozenset({"celery"})),
        LivenessReport(known=frozenset({"slow"}), unreliable={"slow": "its worker is gone", "other": "stopped"}),
        LivenessReport(queues=frozenset({"celery"}), backlog=frozenset({"celery"})),
    ):
        yield replace(context, liveness=liveness)


def test_text_is_the_same_for_every_moment_and_every_answer_of_the_workers(compilations: Compilations) -> None:
    source = offline_source()
    bound = set()
    for context in contexts(source):
        values = source.statements.values(context)
        for query in (candidates_query, count_query, past_timeout_query):
            text, parameters = source.statements.compiled(source.engine.dialect, query).bound(values)
            bound.add((text, tuple(sorted(parameters))))
    assert len(bound) == len(compilations.texts) == 3


# --- threads ---------------------------------------------------------------------------------------------------------


def reachable(root: object) -> Iterator[object]:
    """Everything that can be reached from an object, but for what all of a process has in common.

    Of functions only what they close over; of classes and modules nothing. A dialect is a description of a server, and
    is made to be shared.
    """
    seen, waiting = set[int](), [root]
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, type | ModuleType | Dialect):
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, FunctionType):
            waiting += [cell.cell_contents for cell in current.__closure__ or ()]
        else:
            waiting += gc.get_referents(current)


def constructs(root: object) -> list[object]:
    return [found for found in reachable(root) if isinstance(found, ClauseElement | Compiled)]


def test_threads_share_no_sqlalchemy_construct_of_a_source(world: World) -> None:
    source = world.source()
    use(world, source)
    kept = (source.statements, source.survey, source.lookup, source.post_transition)
    assert sum(isinstance(found, CompiledStatement) for found in reachable(kept)) > 5
    assert constructs(kept) == []
    source.close()


def test_search_for_constructs_finds_one_that_is_kept(protea: Protea) -> None:
    source = protea.source()
    rule = source.statements.new_rule()
    source.statements.get(source.engine.dialect, lambda *_: lambda: rule.stale(rule.tables.jobs))
    assert constructs(source.statements)
