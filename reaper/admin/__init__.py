"""What the daemon serves over HTTP."""

from reaper.admin.desk import Desk
from reaper.admin.history import History
from reaper.admin.server import Server
from reaper.admin.status import Status

__all__ = ["Desk", "History", "Server", "Status"]
