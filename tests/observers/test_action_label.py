"""The action of a profile as a label: each action apart, and no more than so many."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from reaper.memory import ReapCount
from reaper.model import ReapedJob
from reaper.observers.metrics import Metrics


def _total(registry: CollectorRegistry, **labels: str) -> float | None:
    return registry.get_sample_value("reaper_jobs_reaped_total", {"source": "main", "kind": "none", **labels})


def test_actions_are_counted_apart_and_beyond_twenty_as_other() -> None:
    metrics = Metrics()
    metrics.set_sources(["main"], 60)
    jobs = [ReapedJob(("1",), "JobTimeout", None, 1.0, 1.0, None, action=action) for action in ("fail", "requeue")]
    metrics.reaped("main", "1", jobs)
    metrics.reaped_elsewhere([ReapCount("main", "", "JobTimeout", f"action {n}", 2) for n in range(30)])
    assert _total(metrics.registry, reason="JobTimeout", action="requeue") == 1
    assert _total(metrics.registry, reason="JobTimeout", action="fail") == 1
    assert _total(metrics.registry, reason="JobTimeout", action="action 17") == 2
    assert _total(metrics.registry, reason="JobTimeout", action="other") == 24
    assert _total(metrics.registry, reason="JobTimeout", action="action 18") is None
