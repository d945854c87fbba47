"""Whether anything moves in a database: when something was last begun or ended there."""

from __future__ import annotations

import time

from sqlalchemy import Engine, event


class Pulse:
    """Beats with every statement of an engine. `at` is the last beat, on the monotonic clock."""

    def __init__(self, engine: Engine) -> None:
        self.at = time.monotonic()
        event.listen(engine, "before_cursor_execute", self.beat)
        event.listen(engine, "after_cursor_execute", self.beat)

    def beat(self, *_: object) -> None:
        """Something moves. Takes whatever SQLAlchemy tells with it."""
        self.at = time.monotonic()
