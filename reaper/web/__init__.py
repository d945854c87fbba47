"""What the daemon serves over HTTP."""

from reaper.observers.history import History
from reaper.observers.status import Status
from reaper.web.server import HttpServer
from reaper.web.service import AdminService

__all__ = ["AdminService", "History", "HttpServer", "Status"]
