"""The page: what the reaper sees and why, for people. Read without JavaScript, steered with a little of it."""

from reaper.web.ui.routes import router_of

__all__ = ["router_of"]
