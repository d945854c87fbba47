"""`python -m MODULE` as a process of its own, most often without the time that its imports take.

Nearly all the processor time of a short run is spent on imports: 0.9 s for `reaper run`. So a process that has imported
the program (`fork_server`) forks for each run. The result is a real process with an id, descriptors, signals and a
session of its own. Tests of what happens before the first statement (the interpreter's options, the time of a start,
imports, memory) execute the program.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from reaper.cli.main import COMMANDS
from tests.support.fork_server import Request

PROJECT = Path(__file__).parents[2]

_READ_WHEN_USED = re.compile(
    "REAPER_|PROTEA_TUNING__|CREDENTIALS_DIRECTORY$|STATE_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_|JOURNAL_STREAM$|PG"
    "|CHORES_|BEAT_|PATH$|HOME$|TZ$|TERM$|COLUMNS$|NO_COLOR$|FORCE_COLOR$|PYTEST_CURRENT_TEST$|PYTHONDONTWRITEBYTECODE$"
)
"""Variables that a program reads when it needs them. A different value of any other makes it be executed."""

_IMPORTS = {
    "reaper": (
        *(f"reaper.cli.{name.replace('-', '_')}" for name in COMMANDS if name != "demo"),
        "reaper.daemon.main",
        # What these libraries look up by name when a daemon starts.
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "uvicorn.protocols.http.h11_impl",
    ),
    "celery": (
        *("celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.prefork"),
        # What `reaper.celery_tasks` imports. Not the module itself: it would give its tasks to every application.
        *("reaper.observers.command_log", "reaper.operations.report", "reaper.operations.reset"),
        "sqlalchemy.dialects.postgresql.psycopg",
    ),
    "reaper.liveness.inspect": (
        *(f"reaper.liveness.inspect.{name}" for name in ("inspection", "rabbitmq", "redis", "removal")),
        *("kombu.transport.pyamqp", "kombu.transport.redis"),
    ),
    "tests.support.late_worker": ("sqlalchemy.orm", "sqlalchemy.dialects.postgresql.psycopg"),
    "tests.support.process_state": (),
    "tests.support.state_writer": ("reaper.memory", "sqlalchemy.dialects.sqlite.pysqlite"),
    "tests.support.world_sweep": ("tests.support.worlds.mariadb", "tests.support.worlds.postgresql"),
}
"""What to import for each program that can be forked."""


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that imports this project, without settings that were meant for another one."""
    foreign = ("REAPER_", "PROTEA_TUNING", "CREDENTIALS_DIRECTORY", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    borrowed = ("DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL")
    clean = {name: value for name, value in environment.items() if not name.startswith((*foreign, *borrowed))}
    return {**clean, "PYTHONPATH": str(PROJECT)}


class ForkedProcess:
    """A process that a fork server has made: what tests use of `subprocess.Popen`, with text in its pipes."""

    def __init__(
        self, pid: int, args: Sequence[str], status: int, stdin: IO[str] | None, stdout: IO[str] | None,
        stderr: IO[str] | None,
    ) -> None:  # fmt: skip
        self.pid, self.args = pid, args
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.returncode: int | Any = None
        self._status: int = status
        self._waiting = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises TimeoutExpired when there is none after `timeout` seconds."""
        with self._waiting:
            if self.returncode is None:
                poll = select.poll()
                poll.register(self._status, select.POLLIN)
                if not poll.poll(None if timeout is None else max(timeout, 0) * 1000):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                status = os.read(self._status, 16)
                assert status, "the fork server has ended before this process"
                os.close(self._status)
                self.returncode = int(status)
            return int(self.returncode)

    def poll(self) -> int | None:
        """The exit status, or None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Does nothing when the process has ended."""
        if self.poll() is None:
            # It may have ended just now: its fork server knows before we do.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        """Read standard output and error to their ends, close them, and wait for the process.

        A stream that is no pipe, or was closed before, is empty.

        Raises TimeoutExpired when that takes longer than `timeout` seconds. The process is left running.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.stdin is not None:
            self.stdin.close()
        texts = [b"", b""]
        with selectors.DefaultSelector() as selector:
            for number, stream in enumerate((self.stdout, self.stderr)):
                if stream is not None and not stream.closed:
                    selector.register(stream, selectors.EVENT_READ, number)
            while selector.get_map():
                ready = selector.select(_left(deadline))
                if not ready:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                for key, _ in ready:
                    if part := os.read(key.fd, 1 << 16):
                        texts[key.data] += part
                    else:
                        selector.unregister(key.fileobj)
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait(_left(deadline))
        output, errors = (text.decode() for text in texts)
        return output, errors

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                stream.close()
        self.wait()


def _left(deadline: float | None) -> float | None:
    """The seconds that are left; None without a deadline."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


Process = ForkedProcess | subprocess.Popen[str]
Stream = int | IO[Any] | None
"""As `subprocess.Popen` takes it: None (the stream of this process), PIPE, DEVNULL, a descriptor or a file."""


class _ForkServer:
    """The running fork server of one program."""

    def __init__(self, imports: Sequence[str]) -> None:
        self.environment = without_settings(os.environ)
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno()), *imports],
                cwd=PROJECT,
                env=self.environment,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, request: Request, descriptors: Sequence[int]) -> int:
        """The process id of a child with these standard streams, whose exit status is written to the last one."""
        with self._lock:
            socket.send_fds(self._control, [request.dumps()], descriptors)
            answer = self._control.recv(64)
        if not answer:
            raise RuntimeError("the fork server has ended; its stderr says why")
        return int(answer)

    @property
    def control(self) -> int:
        """The descriptor of the socket that takes requests."""
        return self._control.fileno()

    def close(self) -> None:
        self._control.close()
        self._process.wait()


@cache
def _server(program: str) -> _ForkServer:
    """Started when it is first needed, and ended with this process."""
    server = _ForkServer(_IMPORTS[program])
    atexit.register(server.close)
    return server


def control_of(module: str) -> int:
    """The descriptor for `forked_command.py`, to be inherited by a shell. Nothing else may ask the server meanwhile."""
    return _server(module).control


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    warnings_are_errors: bool = False,
    new_session: bool = False,
    controlling_terminal: bool = False,
    executed: bool = False,
) -> Process:
    """Start `python -m module` with just this environment.

    Args:
        controlling_terminal: Whether the terminal at stdin becomes that of the new session, so that Ctrl-C there is
            SIGINT here.
        executed: Whether the program is executed in any case.
    """
    options = ["-W", "error"] if warnings_are_errors else []
    command = [sys.executable, *options, "-m", module, *arguments]
    if executed or not _may_fork(module, environment):
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=new_session,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controlling_terminal else None,
        )
    request = Request(
        module, arguments, dict(environment), str(folder), warnings_are_errors, new_session, controlling_terminal
    )
    with ExitStack() as ends:  # closes those of the process
        ours: list[IO[str] | None] = []
        theirs = []
        for number, stream in enumerate((stdin, stdout, stderr)):
            descriptor, pipe = _connect(number, stream, ends)
            theirs.append(descriptor)
            ours.append(pipe)
        status, their_status = os.pipe()
        ends.callback(os.close, their_status)
        pid = _server(module).fork(request, [*theirs, their_status])
    return ForkedProcess(pid, command, status, *ours)


def _may_fork(module: str, environment: Mapping[str, str]) -> bool:
    if module not in _IMPORTS:
        return False
    served = _server(module).environment
    different = {name for name in served.keys() | environment.keys() if served.get(name) != environment.get(name)}
    return all(_READ_WHEN_USED.match(name) for name in different)


def _connect(number: int, stream: Stream, ends: ExitStack) -> tuple[int, IO[str] | None]:
    """The descriptor for a standard stream of the process and, for PIPE, our end of it."""
    if stream is None:
        return number, None
    if stream == subprocess.DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        ends.callback(os.close, descriptor)
        return descriptor, None
    if stream != subprocess.PIPE:
        return (stream if isinstance(stream, int) else stream.fileno()), None
    read, write = os.pipe()
    theirs, our, mode = (read, write, "w") if number == 0 else (write, read, "r")
    ends.callback(os.close, theirs)
    return theirs, os.fdopen(our, mode, encoding="utf-8")
