"""What the daemon serves over HTTP."""

from reaper.admin.server import Server
from reaper.admin.status import Status

__all__ = ["Server", "Status"]
