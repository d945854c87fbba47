"""Celery's workers as a witness: which tasks they execute, have reserved, or have scheduled for later.

Limitation: Celery's workers leave no trace when they go. A worker that is gone may have been killed, or may be shutting
down warmly with its tasks still running, and the other workers know nothing of those tasks. So a worker that replied
once keeps the jobs of its queues unknown for `absence_seconds` after it is gone, and a probe that has only begun to ask
waits as long before it takes a job for dead (`worker_registry.py`). `absence_seconds` should be no shorter than the
time that your workers get to stop (`TimeoutStopSec`, `terminationGracePeriodSeconds`). With 0, a job may be taken for
dead while a worker that shuts down warmly executes it. A worker with remote control switched off
(`worker_enable_remote_control`) is noticed over RabbitMQ only; over Redis it is as if it did not exist.

What each broker can tell is in `inspect/redis.py` and `inspect/rabbitmq.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from reaper.common.durations import format_duration
from reaper.errors import ProbeNotInstalled, ProbeUnavailable
from reaper.liveness import LivenessReport, TaskRemoval
from reaper.liveness.inspect import InspectReply, InspectRequest
from reaper.liveness.worker_registry import KnownWorker, WorkerRegistry, replies_while_busy

ABSENCE_SECONDS = 300.0
# It happens once, in an emergency, cannot be repeated, and there may be many messages to read.
_REMOVAL_SECONDS = 60.0
_INSTALL = "pip install 'job-reaper[celery]'"


class CeleryProbe:
    """Asks all workers of a broker. Keeps no connection between two inspections; for one thread at a time.

    `expected_queues` are those that jobs may be in, besides the ones that workers name. `transport_options` are
    those of the workers (`broker_transport_options`), such as `global_keyprefix`. `kill_signal` ends a task.
    """

    def __init__(
        self,
        broker_url: str,
        deadline_seconds: float,
        expected_queues: Collection[str] = (),
        *,
        absence_seconds: float = ABSENCE_SECONDS,
        transport_options: Mapping[str, Any] | None = None,
        kill_signal: str = "SIGTERM",
    ) -> None:
        """Raises ProbeNotInstalled without the packages of Celery."""
        needed = ("celery", "kombu", *(("redis",) if broker_url.startswith(("redis", "sentinel")) else ()))
        if missing := [name for name in needed if not _installed(name)]:
            raise ProbeNotInstalled(f"Celery's workers cannot be asked without the package {missing[0]}: {_INSTALL}")
        self.broker_url, self.deadline_seconds = broker_url, deadline_seconds
        self.expected_queues = frozenset(expected_queues)
        self._transport_options, self._kill_signal = dict(transport_options or {}), kill_signal
        self.registry = WorkerRegistry(absence_seconds)
        self._reply_queue = uuid4().hex

    def ask(self) -> LivenessReport:
        """One inspection: it takes milliseconds where all workers reply, and no longer than the deadline."""
        reply = self._inspect()
        now = time.monotonic()
        if reply.trouble is not None:
            self.registry.record_failed_round(now)
            return LivenessReport(trouble=reply.trouble)
        self.registry.update(_complete_workers(reply), _connected_without_reply(reply), now)
        unreliable = dict(self._unreliable_queues(reply, now))
        workers_by_queue = _workers_by_queue(reply)
        workers = reply.workers.values()
        tasks = [reply.queued, *(worker.reserved for worker in workers), *(worker.executing for worker in workers)]
        return LivenessReport(
            alive=frozenset[str]().union(*tasks),
            executing={id_: name for name, worker in reply.workers.items() for id_ in worker.executing},
            names={id_: name for names in tasks for id_, name in names.items()},
            queues=frozenset(workers_by_queue.keys() - unreliable.keys()),
            known=frozenset(workers_by_queue) | self.registry.queues,
            backlog=frozenset(reply.unreadable_queues),
            unreliable=unreliable,
        )

    def revoke(self, ids: Sequence[str]) -> None:
        """Have the workers end these tasks, by signal, and not start those that wait.

        The task of a solo pool cannot be ended like this: its worker reads the command only when the task is over.
        Workers that start later do not know of the revocation, unless they learn it from other workers (mingle) or
        from their `--statedb`. Raises ProbeUnavailable when no worker replied.
        """
        if not ids:
            return
        reply = self._inspect(revoke=tuple(ids))
        if reply.trouble is not None:
            raise ProbeUnavailable(reply.trouble)
        if not reply.workers:
            raise ProbeUnavailable(f"{self._place}: no worker answered within {format_duration(self.deadline_seconds)}")

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        """Revoke and terminate these tasks, and take their messages out of the queues; see `inspect/removal.py`.

        It takes no longer than `_REMOVAL_SECONDS`. Never raises: `trouble` says why nothing could be done.
        """
        if not ids:
            return TaskRemoval()
        reply = self._inspect(remove=tuple(ids), dry_run=dry_run, seconds=_REMOVAL_SECONDS)
        return reply.removal or TaskRemoval(trouble=reply.trouble or "the inspection gave no answer")

    def _inspect(
        self,
        *,
        revoke: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        dry_run: bool = False,
        seconds: float | None = None,
    ) -> InspectReply:
        request = InspectRequest(
            broker_url=self.broker_url,
            until=time.monotonic() + (seconds or self.deadline_seconds),
            reply_queue=self._reply_queue,
            queues=tuple(self.expected_queues | self.registry.queues),
            transport_options=self._transport_options,
            revoke=revoke,
            remove=remove,
            dry_run=dry_run,
            signal=self._kill_signal,
        )
        reply = _run_inspection(request)
        if reply.trouble is not None:
            reply.trouble = f"{self._place}: {_without_secrets(reply.trouble, self.broker_url)}"
        return reply

    def _unreliable_queues(self, reply: InspectReply, now: float) -> Iterator[tuple[str, str]]:
        """Queues that do not count as served although workers of theirs replied, and why."""
        silent, listening = _connected_without_reply(reply), self.registry.listening_seconds(now)
        for queue, workers in _workers_by_queue(reply).items():
            consumers = workers if reply.consumers is None else reply.consumers.get(queue)
            if silent:
                yield queue, f"{silent} worker(s) on the broker did not answer"
            elif consumers is None:
                yield queue, f"the broker does not say how many workers the queue {queue} has"
            elif consumers > workers:
                yield queue, f"{consumers - workers} worker(s) of the queue {queue} did not answer"
            elif missing := self.registry.missing(queue):
                yield queue, f"no longer connected, and may still execute tasks: {', '.join(missing)}"
            elif listening < self.registry.absence_seconds:
                asked_for, absence = format_duration(listening), format_duration(self.registry.absence_seconds)
                reason = f"workers have been asked for {asked_for} only"
                yield queue, f"{reason}: one that left before may be busy for up to {absence}"

    @property
    def _place(self) -> str:
        """The host and port of the broker, without secrets."""
        try:
            parts = [urlsplit(url) for url in self.broker_url.split(";")]
            places = [f"{part.hostname or ''}:{part.port}" if part.port else part.hostname or "" for part in parts]
        except ValueError:
            places = []
        return f"broker {', '.join(places)}".strip()


def _installed(package: str) -> bool:
    # find_spec raises for a module without a specification, which kombu is once it has been imported.
    return sys.modules.get(package) is not None or find_spec(package) is not None


def _run_inspection(request: InspectRequest) -> InspectReply:
    """Run the inspecting process, and stop it when its time is up."""
    command = [sys.executable, "-P", "-m", "reaper.liveness.inspect"]
    # It imports what this process would, but nothing from the current directory, to which others may write.
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    left_seconds = max(request.until - time.monotonic(), 0.0)
    try:
        done = subprocess.run(  # noqa: S603  (a fixed command)
            command,
            input=request.dumps(),
            capture_output=True,
            text=True,
            timeout=left_seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return InspectReply(trouble="it did not answer in time")
    except OSError as error:
        return InspectReply(trouble=f"the inspection could not be started: {error.strerror}")
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return InspectReply(trouble=f"the inspection failed (exit status {done.returncode}): {last_line}")
    return InspectReply.loads(done.stdout)


def _without_secrets(text: str, url: str) -> str:
    """The text without the passwords of the URL, and without the URL itself."""
    users = [part.rpartition("@")[0].partition("://")[2] for part in url.split(";")]
    secrets = {user.partition(":")[2] for user in users} | {unquote(user.partition(":")[2]) for user in users}
    for secret in sorted(filter(None, {*secrets, url}), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _complete_workers(reply: InspectReply) -> dict[str, KnownWorker]:
    """The workers that replied to every command."""
    return {
        name: KnownWorker(
            frozenset[str]().union(*worker.queues), replies_while_busy(worker.pool), worker.pid, worker.uptime_seconds
        )
        for name, worker in reply.workers.items()
        if worker.complete_replies
    }


def _workers_by_queue(reply: InspectReply) -> Counter[str]:
    """How many workers that replied to every command consume each queue."""
    return Counter(
        queue
        for worker in reply.workers.values()
        if worker.complete_replies
        for queues in worker.queues
        for queue in queues
    )


def _connected_without_reply(reply: InspectReply) -> int:
    """How many workers received the commands and did not reply to all of them; 0 where the broker does not say."""
    if reply.listeners is None:
        return 0
    return max(reply.listeners - sum(worker.complete_replies for worker in reply.workers.values()), 0)
