"""A kind whose column has only a number: reports, thresholds and the log have its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.model import KindThresholds, Threshold, Verdict
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.servers import world_on
from tests.support.worlds.vuls import QUEUE, VulsWorld


@pytest.fixture(params=["postgresql", "mariadb"])
def vuls(request: pytest.FixtureRequest) -> Iterator[VulsWorld]:
    with world_on(request, VulsWorld, request.param) as world:
        yield world


def source_of(vuls: VulsWorld, kind: str | None = None) -> Source:
    """Runs of this kind are late after an hour; all others after six."""
    kinds = {kind: KindThresholds(timeout=Threshold(HOUR, "here"))} if kind else {}
    options = SourceOptions(probe=vuls.probe, queues=(QUEUE,))
    return Source("runs", vuls.database.url, resolve("vuls"), thresholds(kinds=kinds), PATIENCE, options)


def test_run_is_reported_and_listed_by_the_name_of_its_schedule(vuls: VulsWorld) -> None:
    run, source = vuls.job(age=8 * HOUR, sign=None), source_of(vuls)
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, DowntimeTracker(0)))
        with source.transaction(connection, read_only=True):
            [evidence] = source.lookup.evidence(connection, context, [(run,)])
            assert (evidence.kind, evidence.verdict) == ("nightly", Verdict.STALE)
            assert source.survey.kinds(connection) == [("nightly", 1)]
            found = [
                source.lookup.list_keys(connection, context, verdict=None, kind=kind, limit=9)
                for kind in ("nightly", "weekly")
            ]
    source.close()
    assert found == [[(run,)], []]


@pytest.mark.parametrize("kind", ["nightly", "7"])
def test_thresholds_of_a_kind_are_found_by_its_name_and_by_its_number(vuls: VulsWorld, kind: str) -> None:
    vuls.session.do("INSERT INTO scheduled_tasks (id, name, task_type) VALUES (8, 'other', 'scan')")
    vuls.job(age=2 * HOUR, sign=None)
    vuls.session.do("UPDATE task_runs SET scheduled_task_id = 8")
    late, source, recorder = vuls.job(age=2 * HOUR, sign=None), source_of(vuls, kind), SweepRecorder()
    options = SweepOptions(host="test", batch_size=10, breaker=Breaker(0, 1.0))
    report = sweep(source, DowntimeTracker(0), SourceState(), options, None, recorder)
    source.close()
    assert (report.error, report.reaped) == (None, 1)
    assert [(job.key, job.kind) for job in recorder.reaped_jobs] == [((late,), "nightly")]
