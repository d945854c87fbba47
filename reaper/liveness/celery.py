"""Celery's workers as a witness: which tasks they execute, have reserved, or have scheduled for later.

Its limitation: Celery's workers leave no trace when they go. A worker that is gone may have been killed, or may be
ending warmly with its tasks still running; what is asked of the others says nothing of those. Therefore a worker that
was heard once keeps the jobs of its queues unknown for `absence_seconds` after it has gone, and a witness which has
only begun to ask waits that long before it calls anything dead (`acquaintance.py`). `absence_seconds` should be no
shorter than what your workers get to stop (`TimeoutStopSec`, `terminationGracePeriodSeconds`). With 0 a job may be
called dead while a worker that ends warmly executes it. A worker with remote control switched off
(`worker_enable_remote_control`) is noticed over RabbitMQ only; over Redis it is as if it were not there.

What each broker can tell stands in `interview/redis.py` and `interview/rabbitmq.py`.
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
from reaper.liveness import LivenessReport
from reaper.liveness.inspect import InspectReply, InspectRequest
from reaper.liveness.worker_registry import KnownWorker, WorkerRegistry, answers_while_busy

ABSENCE_SECONDS = 300.0
_REMEDY = "pip install 'reaper[celery]'"


class CeleryProbe:
    """Asks all workers of a broker. Holds no connection between two questions; made for one thread at a time.

    `expected_queues` are those that jobs may be in, besides the ones that workers name. `transport_options` are
    those of the workers (`broker_transport_options`), such as `global_keyprefix`. `kill_signal` is what ends a task.
    Raises WitnessMissing where Celery is not installed.
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
        needed = ("celery", "kombu", *(("redis",) if broker_url.startswith(("redis", "sentinel")) else ()))
        if missing := [name for name in needed if not _installed(name)]:
            raise ProbeNotInstalled(f"Celery's workers cannot be asked without the package {missing[0]}: {_REMEDY}")
        self._broker_url, self._deadline_seconds = broker_url, deadline_seconds
        self._expected_queues = frozenset(expected_queues)
        self._transport_options, self._kill_signal = dict(transport_options or {}), kill_signal
        self._circle = WorkerRegistry(absence_seconds)
        self._inbox = uuid4().hex

    def ask(self) -> LivenessReport:
        """One inspection, which takes the deadline at the longest, and milliseconds where all workers answer."""
        account = self._interview()
        now = time.monotonic()
        if account.trouble is not None:
            self._circle.record_failed_round(now)
            return LivenessReport(trouble=account.trouble)
        self._circle.update(_heard(account), _silent_listeners(account), now)
        doubts = dict(self._doubts(account, now))
        answered = _answered(account)
        workers = account.workers.values()
        tasks = [account.queued, *(worker.held for worker in workers), *(worker.executing for worker in workers)]
        return LivenessReport(
            alive=frozenset[str]().union(*tasks),
            executing={id_: name for name, worker in account.workers.items() for id_ in worker.executing},
            names={id_: name for some in tasks for id_, name in some.items()},
            queues=frozenset(answered.keys() - doubts.keys()),
            known=frozenset(answered) | self._circle.queues,
            backlog=frozenset(account.waiting),
            unreliable=doubts,
        )

    def revoke(self, ids: Sequence[str]) -> None:
        """Have the workers end these tasks, by signal, and not begin those that wait.

        A solo pool cannot be ended so, and hears of it only when its task is over. Workers that start later do not
        know of it, unless they learn it from others (mingle) or from their `--statedb`.
        """
        if not ids:
            return
        account = self._interview(revoke=tuple(ids))
        if account.trouble is not None:
            raise ProbeUnavailable(account.trouble)
        if not account.workers:
            raise ProbeUnavailable(
                f"{self._place}: no worker answered within {format_duration(self._deadline_seconds)}"
            )

    def _interview(self, revoke: tuple[str, ...] = ()) -> InspectReply:
        order = InspectRequest(
            broker_url=self._broker_url,
            until=time.monotonic() + self._deadline_seconds,
            inbox=self._inbox,
            queues=tuple(self._expected_queues | self._circle.queues),
            transport_options=self._transport_options,
            revoke=revoke,
            signal=self._kill_signal,
        )
        account = _conducted(order)
        if account.trouble is not None:
            account.trouble = f"{self._place}: {_without_secrets(account.trouble, self._broker_url)}"
        return account

    def _doubts(self, account: InspectReply, now: float) -> Iterator[tuple[str, str]]:
        """Queues that are not served although somebody answered for them, and why."""
        silent, listening = _silent_listeners(account), self._circle.listening_seconds(now)
        for queue, workers in _answered(account).items():
            consumers = workers if account.consumers is None else account.consumers.get(queue)
            if silent:
                yield queue, f"{silent} worker(s) on the broker did not answer"
            elif consumers is None:
                yield queue, f"the broker does not say how many workers the queue {queue} has"
            elif consumers > workers:
                yield queue, f"{consumers - workers} worker(s) of the queue {queue} did not answer"
            elif missing := self._circle.missing(queue):
                yield queue, f"no longer heard, and perhaps not dead yet: {', '.join(missing)}"
            elif listening < self._circle.absence_seconds:
                begun, needed = format_duration(listening), format_duration(self._circle.absence_seconds)
                yield queue, f"asked since {begun} only: a worker that left before may be busy for up to {needed}"

    @property
    def _place(self) -> str:
        """Where the broker is, without secrets."""
        try:
            parts = [urlsplit(url) for url in self._broker_url.split(";")]
            places = [f"{part.hostname or ''}:{part.port}" if part.port else part.hostname or "" for part in parts]
        except ValueError:
            places = []
        return f"broker {', '.join(places)}".strip()


def _installed(package: str) -> bool:
    # Once imported, kombu is a lazy module without a specification, which find_spec takes amiss.
    return sys.modules.get(package) is not None or find_spec(package) is not None


def _conducted(order: InspectRequest) -> InspectReply:
    """The account of an interview, which is over by its time, whatever happens to it."""
    words = [sys.executable, "-P", "-m", "reaper.liveness.inspect"]
    # It imports what this process would; but nothing from the current directory, which is anybody's.
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    left = max(order.until - time.monotonic(), 0.0)
    try:
        done = subprocess.run(  # noqa: S603  (fixed words)
            words, input=order.dumps(), capture_output=True, text=True, timeout=left, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return InspectReply(trouble="it did not answer in time")
    except OSError as error:
        return InspectReply(trouble=f"the interview could not begin: {error.strerror}")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return InspectReply(trouble=f"the interview failed (exit status {done.returncode}): {last}")
    return InspectReply.loads(done.stdout)


def _without_secrets(text: str, url: str) -> str:
    """The text without what a URL's user part says."""
    users = [part.rpartition("@")[0].partition("://")[2] for part in url.split(";")]
    secrets = {user.partition(":")[2] for user in users} | {unquote(user.partition(":")[2]) for user in users}
    for secret in sorted(filter(None, {*secrets, url}), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _heard(account: InspectReply) -> dict[str, KnownWorker]:
    return {
        name: KnownWorker(
            frozenset[str]().union(*worker.queues), answers_while_busy(worker.pool), worker.pid, worker.uptime_seconds
        )
        for name, worker in account.workers.items()
        if worker.complete_answers
    }


def _answered(account: InspectReply) -> Counter[str]:
    """How many workers answered everything, by the queues that they consume."""
    return Counter(
        queue
        for worker in account.workers.values()
        if worker.complete_answers
        for queues in worker.queues
        for queue in queues
    )


def _silent_listeners(account: InspectReply) -> int:
    if account.listeners is None:
        return 0
    return max(account.listeners - sum(worker.complete_answers for worker in account.workers.values()), 0)
