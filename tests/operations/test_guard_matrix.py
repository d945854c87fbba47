"""Each way to end, revoke or delete jobs, and each guard: what holds it, and what passes that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest

from reaper import celery_tasks
from reaper.cli.main import COMMANDS
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.memory import HaltRecord, Memory
from tests.conftest import TEMPLATE
from tests.support.api import ApiDaemon, shared_daemon
from tests.support.commands import Reaper, environment
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.purges import finished
from tests.support.waiting import wait_until
from tests.sweep.test_quiet_times import around

GUARDS = ("question", "halt", "breaker", "cap", "silence", "observe", "hold", "never", "quiet")
HELD, PASSES, NONE = "H", ".", " "
"""The guard holds it; the guard is not for it; there is no such guard: only commands ask a question."""

MATRIX = {
    # question, halt, breaker, cap, silence, observe, hold, never, quiet
    "reaper sweep": ".HHHHHHHH",  # without a terminal the rule decides, as it does in the daemon
    "reaper clear": "HHHHHHHHH",
    "reaper cleanup": ".HHHHHHHH",  # scripts of its document run it without a terminal
    "reaper reset": "HH...HHHH",  # the jobs that it has counted are its guard
    "reaper purge": "HH...HH.H",  # `never` names kinds that are not ended: what it deletes has ended
    "reaper close-interrupted --only-server": "HHHH HHHH",  # it waits until silence counts, and listens then
    "reaper close-interrupted --holder": "HH.. HHHH",  # the holder's column is the proof
    "reaper fail": ".....HHH.",  # one job, whose name is the decision
    "reaper fail --action": ".....HHH.",
    "task clear_stuck_scheduler_jobs": " HHHHHHHH",
    "task cleanup_old_task_runs_enhanced": " H...HH.H",
    "task reset_scheduler_state": " H...HHHH",
    "POST /api/sweeps": " HHHHHHHH",
    "POST /api/executions/cleanup": " HHHHHHHH",
    "POST /api/admin/clear-stuck-jobs": " HHHHHHHH",
    "POST /api/jobs/{source}/{id}/fail": " ....HHH.",
    "POST /api/jobs/{source}/{id}/requeue": " ....HHH.",
}
HARMLESS = {
    *("run", "report", "explain", "hold", "unhold", "holds", "fence", "state", "halt", "restart", "check", "grants"),
    *("config", "diff", "files", "init", "runbook", "sql", "demo"),
    "get_stuck_jobs_report",
    *("/api/jobs/{source}/{id}/hold", "/api/jobs/{source}/{id}/unhold", "/api/ended"),
    *("/api/supervisor/halt", "/api/supervisor/restart"),
}
"""What ends, revokes and deletes nothing that is running or kept in a job table."""

CONFIG = """
{}
[profiles.ours]
extends = "protea"
jobs = {{ holder = "queue_name" }}
[profiles.ours.actions.requeue]
set = {{ status = "queued" }}
[sources.default]
profile = "ours"
{}
"""


@dataclass(frozen=True)
class Guard:
    """How it is put into force, and what passes it: an option; without one, it is taken back."""

    settings: str = ""
    passed_by: Mapping[str, object] = field(default_factory=dict)
    says: str = ""
    of_all: str = ""
    """Settings of the whole reaper."""
    restart_grace: str = "0"

    @property
    def config(self) -> str:
        return CONFIG.format(self.of_all, self.settings)


NO_GUARD = Guard()


def guards(protea: Protea) -> dict[str, Guard]:
    return {
        "question": Guard("", {"yes": True}, "use --yes"),
        "halt": Guard("", {"while_halted": True}, "halted"),
        "breaker": Guard("", {"release": 2}, "held|more than 1 and", "breaker_min = 1"),
        "cap": Guard('most = "1 in 10m"', {"release": 2}, "more than 1 in 10m"),
        "silence": Guard("", {"trust_silence": True}, restart_grace="60s"),
        "observe": Guard("observe = true", {"while_observed": True}, "observed"),
        "hold": Guard("", {}, ""),
        "never": Guard('never = [{ kind = "embed" }]', {}, ""),
        "quiet": Guard(f'quiet = "{around(protea.now(), 2 * MINUTE, 2 * HOUR)}"', {}, "quiet.until"),
    }


def two_jobs(protea: Protea, way: str) -> list[str]:
    """Two that this way ends or deletes when no guard holds it."""
    protea.connection.execute("TRUNCATE job, job_event")
    if way in {"reaper purge", "task cleanup_old_task_runs_enhanced"}:
        finished(protea, 2)
        return list(protea.statuses())
    return [protea.stale(), protea.stale()]


# --- commands and tasks -------------------------------------------------------------------------------------------

CLOSE = ("close-interrupted", "--source", "default", "--started-ago", "1h", "--window", "2h", "--listen", "0.01s")
WORDS = {
    "reaper sweep": ("sweep",),
    "reaper clear": ("clear", "--max-age-hours", "1"),
    "reaper cleanup": ("cleanup", "--older-than-minutes", "60"),
    "reaper reset": ("reset", "--source", "default"),
    "reaper purge": ("purge",),
    "reaper close-interrupted --only-server": (*CLOSE, "--only-server"),
    "reaper close-interrupted --holder": (*CLOSE, "--holder", "q"),
    "reaper fail": ("fail", "JOB", "--reason", "its node is gone"),
    "reaper fail --action": ("fail", "JOB", "--reason", "its node is gone", "--action", "requeue"),
}
TASKS: Mapping[str, Callable[..., object]] = {
    "task clear_stuck_scheduler_jobs": partial(celery_tasks.clear_stuck_scheduler_jobs, max_age_hours=1),
    "task cleanup_old_task_runs_enhanced": celery_tasks.cleanup_old_task_runs_enhanced,
    "task reset_scheduler_state": partial(celery_tasks.reset_scheduler_state, force=True, all_sources=True),
}


@dataclass
class Commands:
    """The command line and the Celery tasks, in this process and beside no daemon."""

    reaper: Reaper
    protea: Protea
    names = (*WORDS, *TASKS)

    def passes(self, way: str, guard: Guard) -> Mapping[str, object]:
        return guard.passed_by

    def run(self, way: str, job: str, passes: Mapping[str, object], *, asked: bool = False) -> str:
        if way in TASKS:
            return self._task(way, passes)
        words = [job if word == "JOB" else word for word in WORDS[way]]
        for name, value in {**({} if asked else {"yes": True}), **passes}.items():
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return self.reaper(*words).output

    def _task(self, way: str, passes: Mapping[str, object]) -> str:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment(self.reaper.given).items():
                patch.setenv(name, value)
            try:
                return str(TASKS[way](**passes))
            except Exception as error:  # noqa: BLE001 - what Celery's client sees
                return str(error)

    def put(self, guard: str, one: Guard) -> None:
        memory = Memory.open(self.reaper.folder / "state")
        memory.halt.clear()
        memory.ended_lately.forget("default")
        self.reaper.configure(f'restart_grace = "{one.restart_grace}"\n{one.config}')
        if guard == "halt":
            memory.halt.save(HaltRecord("alice", "look first"))

    def take_back(self) -> None:
        self.reaper.configure(f"restart_grace = 0\n{NO_GUARD.config}")

    def hold(self, job: str) -> None:
        assert self.reaper("hold", job, "--for", "3h", "--reason", "Ann looks").exit_code == 0

    def unhold(self, job: str) -> None:
        assert self.reaper("unhold", job).exit_code == 0


@pytest.fixture(scope="module")
def commands(server: PrivatePostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    url, folder = server.create_database("guards", tables=False, template=TEMPLATE), tmp_path_factory.mktemp("guards")
    reaper = Reaper(folder, {"REAPER_DATABASE_URL": url, "REAPER_STATE_DIR": str(folder / "state")})
    del reaper.given["REAPER_RESTART_GRACE"]  # the file says it
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield Commands(reaper, Protea(url, connection))
    server.drop_database("guards")


def judged(ways: Commands | Requests, guard: str) -> dict[str, str]:
    """What this guard does to each of these ways. What is held says so, and is passed by the guard's option, or when
    the guard is taken back.
    """
    one, found, later = guards(ways.protea)[guard], dict.fromkeys(ways.names, NONE), []
    ways.put(guard, one)
    for way in (way for way in ways.names if MATRIX[way][GUARDS.index(guard)] != NONE):
        jobs = two_jobs(ways.protea, way)
        for job in jobs if guard == "hold" else ():
            ways.hold(job)
        said, changed = run(ways, way, jobs[0], {}, asked=guard == "question")
        found[way] = PASSES if changed else HELD
        if changed:
            continue
        assert re.search(one.says, said, re.IGNORECASE), (way, said)
        passes = ways.passes(way, one)
        if not passes and guard != "hold":
            later.append(way)
            continue
        for job in jobs if guard == "hold" else ():
            ways.unhold(job)
        said, changed = run(ways, way, jobs[0], passes)
        assert changed, (way, "is held all the same", said)
    ways.take_back()
    for way in later:
        said, changed = run(ways, way, two_jobs(ways.protea, way)[0], {})
        assert changed, (way, "is held all the same", said)
    return found


def run(
    ways: Commands | Requests, way: str, job: str, passes: Mapping[str, object], *, asked: bool = False
) -> tuple[str, bool]:
    """What was said, and whether any row has changed."""
    before = ways.protea.dump()
    return ways.run(way, job, passes, asked=asked), ways.protea.dump() != before


def column(guard: str, names: Iterable[str]) -> dict[str, str]:
    return {way: MATRIX[way][GUARDS.index(guard)] for way in names}


@pytest.mark.parametrize("guard", GUARDS)
def test_commands_and_tasks_are_held_by_the_guards_of_their_row_and_passed_by_its_option(
    commands: Commands, guard: str
) -> None:
    assert judged(commands, guard) == column(guard, commands.names)


# --- requests -----------------------------------------------------------------------------------------------------


BODIES: Mapping[str, Mapping[str, object]] = {
    "/api/sweeps": {"source": "default"},
    "/api/executions/cleanup": {"older_than_minutes": 60},
    "/api/admin/clear-stuck-jobs": {"max_age_hours": 3},
}


@dataclass
class Requests:
    """A running daemon, asked over HTTP."""

    daemon: ApiDaemon
    protea: Protea
    names = tuple(way for way in MATRIX if way.startswith("POST "))

    def __post_init__(self) -> None:
        self.now = self.careful = self.daemon

    def passes(self, way: str, guard: Guard) -> Mapping[str, object]:
        """A sweep over HTTP can release the breaker, and nothing else."""
        return {} if way == "POST /api/sweeps" and "release" not in guard.passed_by else guard.passed_by

    def run(self, way: str, job: str, passes: Mapping[str, object], *, asked: bool = False) -> str:
        assert not asked
        api, path = self.now.api, way.removeprefix("POST ").format(source="default", id=job)
        if path.startswith("/api/jobs/"):
            body = {"started": api.job(job).json["job"]["started"], "reason": "its node is gone"}
        else:
            body = {
                "/api/executions/cleanup": {"older_than_minutes": 60},
                "/api/admin/clear-stuck-jobs": {"max_age_hours": 3},
            }.get(path, {"source": "default"})
        answer = api.post(path, {**body, **passes})
        if answer.status == 202:
            task = answer.json["task_id"]
            return str(wait_until(lambda: api.get(f"{path}/{task}").json["result"], "its end"))
        return answer.text

    def put(self, guard: str, one: Guard) -> None:
        if guard == "silence":  # a daemon that knows the server knows that it was heard
            self.now = self.careful
            return
        self.daemon.reload(one.config)
        assert self.daemon.answers[-1]["event"] == "Reaper has a new configuration."
        if guard == "halt":
            assert self.daemon.api.post("/api/supervisor/halt?reason=look").status == 200

    def take_back(self) -> None:
        self.now = self.daemon
        assert self.daemon.api.post("/api/supervisor/restart").status == 200
        self.daemon.reload(NO_GUARD.config)

    def hold(self, job: str) -> None:
        assert (
            self.now.api.post(f"{self.now.api.at(job)}/hold", {"duration": "3h", "reason": "Ann looks"}).status == 200
        )

    def unhold(self, job: str) -> None:
        assert self.now.api.post(f"{self.now.api.at(job)}/unhold").status == 200


running, daemon, protea = shared_daemon("guarded", config=CONFIG.format("", ""))


@pytest.mark.parametrize("guard", GUARDS[1:])
def test_requests_are_held_by_the_guards_of_their_row_and_passed_by_its_member(
    daemon: ApiDaemon, protea: Protea, guard: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        requests = Requests(daemon, protea)
        if guard == "silence":
            careful = ApiDaemon(tmp_path, NO_GUARD.config, database_url=protea.url, restart_grace="60s")
            requests.careful = stack.enter_context(careful)
        assert judged(requests, guard) == column(guard, requests.names)


# --- completeness -------------------------------------------------------------------------------------------------


def test_every_command_task_and_request_that_changes_something_is_in_the_matrix_or_is_harmless(
    daemon: ApiDaemon,
) -> None:
    """One that is new needs a row, which says what each guard does to it, or a place in `HARMLESS`."""
    described = daemon.api.get("/api/openapi.json").json["paths"]
    requests = {path for path, operations in described.items() if set(operations) - {"get"}}
    tasks = {
        name
        for name in vars(celery_tasks)
        if f"{celery_tasks.__name__}.{name}" == getattr(vars(celery_tasks)[name], "name", "")
    }
    ending = {way.split()[1] for way in MATRIX}
    assert {*COMMANDS, *tasks, *requests} == ending | HARMLESS
    assert not ending & HARMLESS and {*WORDS, *TASKS, *Requests.names} == set(MATRIX)
