"""A process that has imported a program, and forks a child for each run of it (`tests.support.programs` asks it to).

The child takes over what an executed program gets from the kernel and from the interpreter's start: environment,
folder, standard streams, session, signals, warnings. What else is read only then is the server's: `programs` executes a
program whose environment differs in that.
"""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import termios
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module

MAX_BYTES = 1 << 17
"""The longest request. A longer one is an error of sendmsg."""


@dataclass(frozen=True)
class Request:
    """A run of `python -m module`."""

    module: str
    arguments: Sequence[str]
    environment: dict[str, str]
    folder: str
    warnings_are_errors: bool
    new_session: bool
    controlling_terminal: bool

    def dumps(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def loads(cls, text: bytes) -> Request:
        return cls(**json.loads(text))


def serve(control: socket.socket) -> Request | None:
    """Answer each request with the process id of a child. Returns the request in the child, None when `control` closes.

    With a request come four descriptors: the child's standard streams, and a pipe to which its exit status is written.
    """
    children: dict[int, tuple[int, int]] = {}  # by the descriptor of the process: its id and the pipe for its status
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                pid, status = children.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.close(ready)
                os.write(status, b"%d" % code)
                os.close(status)
                continue
            text, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, 4)
            if not text:
                return None
            request = Request.loads(text)
            *streams, status = descriptors
            if (pid := os.fork()) == 0:
                control.close()
                for descriptor in (status, *children, *(pipe for _, pipe in children.values())):
                    os.close(descriptor)
                _take_over(request, streams)
                return request
            for descriptor in streams:
                os.close(descriptor)
            process = os.pidfd_open(pid)
            children[process] = (pid, status)
            poll.register(process, select.POLLIN)
            control.send(b"%d" % pid)


def _take_over(request: Request, streams: Sequence[int]) -> None:
    """Become what the executed program would be before its first statement."""
    if request.new_session:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request.controlling_terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = request.folder
    sys.argv[1:] = request.arguments
    sys.dont_write_bytecode = bool(request.environment.get("PYTHONDONTWRITEBYTECODE"))
    if request.warnings_are_errors:
        warnings.simplefilter("error")
        sys.warnoptions.append("error")
    # The server's own streams remember whether their files can be sought in, or are terminals.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _reopened(number, getattr(sys, f"__{name}__"))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _reopened(number: int, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A standard stream on this descriptor, as the interpreter makes it at its start."""
    unbuffered = stream.write_through  # by PYTHONUNBUFFERED
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffer = io.BufferedReader(raw) if number == 0 else raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        stream.encoding,
        stream.errors,
        newline=None if number == 0 else "\n",
        line_buffering=not unbuffered and (number == 2 or os.isatty(number)),
        write_through=unbuffered,
    )


def main(descriptor: str, *preloaded: str) -> None:
    """Serve the socket with this descriptor, with these modules imported. A child runs its program and returns."""
    control = socket.socket(fileno=int(descriptor))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in preloaded:
            import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError(f"an import started a thread, which a fork would not copy: {threading.enumerate()}")
    # A collection would write to all these objects, and each child would copy their memory.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (request := serve(control)) is not None:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
