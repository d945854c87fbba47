"""Private brokers and Celery workers: processes that tests stop, freeze and kill with real signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil
import pytest
from celery import Celery

from tests.support.daemons import free_port
from tests.support.programs import Process, start, without_settings
from tests.support.waiting import wait_until

_REDIS = shutil.which("redis-server")
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_EPMD = shutil.which("epmd")
PASSWORD = "s3cret/word"


class Broker(Protocol):
    """A private broker, running when it is handed out."""

    url: str
    address: str

    def up(self) -> None: ...
    def down(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def url_with(self, password: str) -> str: ...


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class ProcessGroup:
    """A process and its children in one process group, which receives signals together."""

    def __init__(self, process: Process) -> None:
        """The process must be the first of a session of its own."""
        self.process = process

    @classmethod
    def of(cls, words: Sequence[str], folder: Path, log: Path, **environment: str) -> ProcessGroup:
        """Start a program."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                text=True,
            )
        return cls(process)

    @classmethod
    def of_celery(cls, words: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]) -> ProcessGroup:
        """Start the program `celery`."""
        with log.open("ab") as output:
            process = start(
                "celery",
                *words,
                environment={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
                folder=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                new_session=True,
            )
        return cls(process)

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill the whole group with SIGKILL."""
        self.signal(signal.SIGKILL)
        self.process.wait(10)


class RedisServer:
    """A redis-server with a password, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.url = self.url_with(PASSWORD)
        self.up()

    def url_with(self, password: str) -> str:
        return f"redis://:{password.replace('/', '%2F')}@{self.address}/0"

    def up(self) -> None:
        options = {"port": self._port, "bind": "127.0.0.1", "dir": self._folder, "requirepass": PASSWORD}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        assert _REDIS is not None
        self._group = ProcessGroup.of(
            [_REDIS, *words, "--appendonly", "yes", "--appendfsync", "no"], self._folder, self._folder / "redis.log"
        )
        wait_until(lambda: _answers(self._port), "Redis answers")

    def down(self) -> None:
        self._group.kill()

    def freeze(self) -> None:
        self._group.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._group.signal(signal.SIGCONT)


class RabbitServer:
    """A private RabbitMQ node, with its own name, ports, folder, cookie and port mapper."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._mapper_port = folder, free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.url = self.url_with("guest")
        self._environment = {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"reaper{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            # Erlang's schedulers are not to spin while they wait: other tests need the processor.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
            " +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        }
        # With the default, RabbitMQ blocks publishers when the machine's disk is nearly full.
        (folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 1MB\n")
        assert _EPMD is not None
        self._mapper = ProcessGroup.of([_EPMD], folder, folder / "epmd.log", **self._environment)
        self.up()

    def url_with(self, password: str) -> str:
        return f"amqp://guest:{password}@{self.address}//"

    def up(self) -> None:
        self._group = ProcessGroup.of([_RABBITMQ], self._folder, self._folder / "out.log", **self._environment)
        wait_until(lambda: _answers(self._port), "RabbitMQ answers", 120)

    def down(self) -> None:
        self._group.kill()

    def close(self) -> None:
        self.down()
        self._mapper.kill()

    def freeze(self) -> None:
        self._group.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._group.signal(signal.SIGCONT)


def _require(name: str, installed: bool) -> None:
    if not installed:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    _require("redis-server", _REDIS is not None)
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.down()


@contextmanager
def rabbit_server(folder: Path) -> Iterator[RabbitServer]:
    _require("rabbitmq-server", Path(_RABBITMQ).exists() and _EPMD is not None)
    server = RabbitServer(folder)
    try:
        yield server
    finally:
        server.close()


class CeleryWorker:
    """`celery worker` in a process group of its own."""

    def __init__(
        self, broker: Broker, folder: Path, queues: Sequence[str], pool: str, name: str | None, **environment: str
    ) -> None:
        self.name = name or f"{uuid4().hex[:8]}@test"
        self._log = folder / f"{uuid4().hex}.log"
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "info"]
        words = ["-A", "tests.support.celery_app", "worker", "-Q", ",".join(queues), "-n", self.name, "-P", pool]
        settings = {"CHORES_BROKER": broker.url, **environment}
        self._group = ProcessGroup.of_celery(
            [*words, "-c", "1", *quiet], folder, self._log, {**without_settings(os.environ), **settings}
        )
        wait_until(lambda: b" ready." in self._log.read_bytes(), f"{self.name} is ready", 60)

    @property
    def running(self) -> bool:
        return self._group.process.poll() is None

    def kill(self) -> None:
        """Kill the worker and its child processes with SIGKILL."""
        self._group.kill()

    def freeze(self) -> None:
        self._group.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._group.signal(signal.SIGCONT)

    def shut_down_warmly(self) -> None:
        """Send SIGTERM, as service managers do: the worker takes no new task and finishes the running ones."""
        os.kill(self._group.process.pid, signal.SIGTERM)
        wait_until(lambda: b"Warm shutdown" in self._log.read_bytes(), f"{self.name} ends warmly")


class CeleryCluster:
    """The workers of one test, and the tasks sent to them."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.queue = f"q{uuid4().hex[:8]}"
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def start_worker(
        self, *queues: str, pool: str = "prefork", name: str | None = None, **environment: str
    ) -> CeleryWorker:
        """Start a worker for these queues (default: the test's own) and wait until it is ready."""
        worker = CeleryWorker(self.broker, self.folder, queues or [self.queue], pool, name, **environment)
        self._stack.callback(worker.kill)
        return worker

    def send(self, task: str, *args: Any, queue: str | None = None, **options: Any) -> str:
        """Send a task, by default to the test's own queue. Returns its id."""
        id_ = uuid4().hex
        app = Celery(broker=self.broker.url)
        with app.connection_for_write() as connection:
            app.send_task(
                f"chores.{task}", args, task_id=id_, queue=queue or self.queue, connection=connection, **options
            )
        app.close()
        return id_

    def start_task(self, task: str = "linger", **options: Any) -> RunningTask:
        """Send a task that runs until `finish` or `kill`, and wait until a worker executes it."""
        track = self.folder / uuid4().hex
        running_task = RunningTask(self.send(task, str(track), **options), track)
        wait_until(lambda: track.exists() and track.read_text(), "the task has begun", 30)
        return running_task


class RunningTask:
    """A task that a worker is executing."""

    def __init__(self, id_: str, track: Path) -> None:
        self.id, self._track = id_, track

    def finish(self) -> None:
        Path(f"{self._track}.done").touch()

    @property
    def alive(self) -> bool:
        """Whether the process that executes it exists."""
        try:
            return bool(psutil.Process(int(self._track.read_text())).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
