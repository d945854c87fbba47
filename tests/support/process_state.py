"""A program that prints what it was given by the kernel and by the interpreter's start. For test_programs.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any


def _stream(stream: Any) -> dict[str, Any]:
    names = ("encoding", "errors", "line_buffering", "write_through", "newlines")
    return {name: getattr(stream, name) for name in names}


def _state() -> dict[str, Any]:
    return {
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "warnings": [sys.warnoptions, [rule[0] for rule in warnings.filters]],
        "bytecode": sys.dont_write_bytecode,
        "streams": [_stream(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "terminals": [os.isatty(number) for number in range(3)],
        "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        "signals": {number.name: str(signal.getsignal(number)) for number in signal.valid_signals() if number < 32},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": [thread.name for thread in threading.enumerate()],
        "leader": os.getsid(0) == os.getpid(),
        "zone": time.tzname,
        "input": sys.stdin.read(),
    }


if __name__ == "__main__":
    match sys.argv[1]:
        case "state":
            print(json.dumps(_state()))
        case "exit":
            sys.exit(int(sys.argv[2]))
        case "fail":
            print("half a line", end="")
            raise LookupError(sys.argv[2])
        case "wait":
            print("ready", flush=True)
            time.sleep(600)
