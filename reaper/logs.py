"""How log lines leave the process: JSON or for people, to stderr or to a file that may be rotated away."""

from __future__ import annotations

import logging
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import Processor

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def set_up(level: str, form: str, file: Path | None) -> None:
    """Route structlog and the libraries' own loggers through one handler.

    Raises OSError when the file cannot be written. It is reopened when logrotate has moved it.
    """
    handler = WatchedFileHandler(file, encoding="utf-8") if file else logging.StreamHandler()
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    # It warns of every run that is skipped because the one before still works, which the metrics tell better.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    adjust(level, form)


def adjust(level: str, form: str) -> None:
    """Change level and form of what `set_up` made; lines go where they went."""
    logging.getLogger("reaper").setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setFormatter(_formatter(form, handler.stream))


def _formatter(form: str, stream: TextIO) -> logging.Formatter:
    terminal = stream.isatty()
    as_json = form == "json" or (form == "auto" and not terminal)
    renderer: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=terminal)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
