"""The REST API: what the daemon sees and does, for programs."""

from reaper.web.api.router import serve

__all__ = ["serve"]
