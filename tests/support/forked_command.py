"""A command of a shell that a running fork server executes: `forked_command.py DESCRIPTOR MODULE ARGUMENT...`.

DESCRIPTOR is the server's control socket (`programs.control_of`), which the shell has inherited. The run has the
command's environment, folder and standard streams, and the command ends with its status.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

# The interpreter is started without site-packages, which takes a quarter of its time.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.fork_server import Request


def main(descriptor: str, module: str, *arguments: str) -> int:
    control = socket.socket(fileno=int(descriptor))
    ended, status = os.pipe()
    request = Request(module, arguments, dict(os.environ), str(Path.cwd()), True, False, False)
    socket.send_fds(control, [request.dumps()], [0, 1, 2, status])
    os.close(status)
    control.recv(64)
    return int(os.read(ended, 16))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
