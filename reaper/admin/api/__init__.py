"""The REST API: what the daemon sees and does, for programs."""

from reaper.admin.api.routes import serve

__all__ = ["serve"]
