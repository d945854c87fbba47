"""The daemon's log as programs read it: JSON lines, the three frozen events, and the names of fields."""

from __future__ import annotations

import re
from typing import Any

from tests.contract.conftest import DaemonRecording, Golden
from tests.contract.support import structure

FROZEN = re.compile(r"Reaped \d+ stale job\(s\)\.|Reaper skipped live job\.|Reaper cycle failed")
"""The events that documents name word by word. All others may be reworded. Their fields keep their names."""


def test_log_keeps_its_frozen_events_and_the_names_of_its_fields(life: DaemonRecording, golden: Golden) -> None:
    named: dict[str, list[dict[str, Any]]] = {}
    for line in life.log:
        if FROZEN.fullmatch(line["event"]):
            named.setdefault(re.sub(r"\d+", "N", line["event"]), []).append(line)
    assert len(named) == 3, named.keys()
    frozen = [line for event, lines in named.items() for line in structure(event, *(_without_event(x) for x in lines))]
    every = {name for line in life.log for name in line}
    common = set.intersection(*(set(line) for line in life.log))
    golden("log.txt", [*frozen, *(f"in some lines: {name}" for name in every), *(f"in all: {name}" for name in common)])


def _without_event(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "event"}


def test_reap_keeps_what_it_writes_into_the_database(life: DaemonRecording, golden: Golden) -> None:
    """The profile protea: the job's columns, and the audit event with its evidence."""
    job = {name: life.ended_job[name] for name in ("status", "error_code")}
    event = {name: life.audit[name] for name in ("event", "level")}
    written = [f"job: {name} = {value}" for name, value in job.items()]
    written += [f"job_event: {name} = {value}" for name, value in event.items()]
    assert life.ended_job["finished_at"] is not None and life.ended_job["error_message"] and life.audit["message"]
    golden("audit.txt", [*written, *structure("job_event: fields", life.audit["fields"])])
