"""The page: jobs, sources and sweeps in HTML. It can be read without JavaScript; its actions need some."""

from reaper.web.ui.routes import router_of

__all__ = ["router_of"]
