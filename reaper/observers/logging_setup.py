"""How log lines leave the process: JSON or for people, to stderr or to a file that may be rotated away."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from reaper.common.terminal import to_stderr

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)
_LONG = frozenset({"exception", "stack"})
"""What takes several lines."""
_PROCESSORS: tuple[Processor, ...] = (
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)


class LogFile(WatchedFileHandler):
    """A file that is opened anew when logrotate has moved it.

    While it cannot be written, lines go to stderr instead: what is wrong with a log must not stop the sweeps.
    """

    def _open(self) -> TextIOWrapper:
        _make_for_its_folders_owner(Path(self.baseFilename))
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # nor is a stderr on the same full disk, or one that is closed
            print(to_stderr(self.format(record), record.levelno), file=sys.stderr, flush=True)  # noqa: T201


class LogStream(logging.StreamHandler[TextIO]):
    """stderr, whatever that is: a terminal, a file, or the journal."""

    def format(self, record: logging.LogRecord) -> str:
        return to_stderr(super().format(record), record.levelno)


def configure(level: str, form: str, file: Path | None) -> None:
    """Route structlog and the libraries' own loggers through one handler.

    Raises OSError when the file cannot be written.
    """
    handler = _handler(file)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    # It warns of every run that is skipped because the one before still works, which the metrics tell better.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    structlog.configure(
        processors=_PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    reconfigure(level, form)


def reconfigure(level: str, form: str) -> None:
    """Change level and form of what `set_up` made; lines go where they went."""
    logging.getLogger("reaper").setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_formatter(form, terminal=_is_terminal(handler)))


@contextmanager
def standalone_logger(level: str, form: str, file: Path | None) -> Iterator[Any]:
    """A logger with a handler of its own, for a process whose logging belongs to somebody else.

    Raises OSError when the file cannot be written.
    """
    handler = _handler(file)
    handler.setFormatter(_formatter(form, terminal=_is_terminal(handler)))
    # Not one of `getLogger`, which others may have given handlers.
    logger = logging.Logger("reaper", level.upper())
    logger.addHandler(handler)
    try:
        yield structlog.wrap_logger(logger, processors=_PROCESSORS, wrapper_class=structlog.stdlib.BoundLogger)
    finally:
        handler.close()


def _handler(file: Path | None) -> logging.Handler:
    return LogFile(file, encoding="utf-8") if file else LogStream()


def _make_for_its_folders_owner(file: Path) -> None:
    """A log that root is about to make in a service's folder becomes the service's, which has to write on in it."""
    folder = file.parent.stat()
    if os.geteuid() != 0 or folder.st_uid == 0:
        return
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        finally:
            os.close(descriptor)


def _is_terminal(handler: logging.Handler) -> bool:
    return not isinstance(handler, LogFile) and sys.stderr.isatty()


def _formatter(form: str, *, terminal: bool) -> logging.Formatter:
    as_json = form == "json" or (form == "auto" and not terminal)
    console: tuple[Processor, ...] = (_spell_out, structlog.dev.ConsoleRenderer(colors=terminal))
    renderers = (structlog.processors.JSONRenderer(),) if as_json else console
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


class _Quoted(str):
    """Text that has been through `repr` already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _spell_out(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Control characters in text from a database would steer the terminal.

    The console renderer quotes only text with a space, a quote or the end of a line in it.
    """
    return {name: _spelled(name, value) for name, value in fields.items()}


def _spelled(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    if name == "event" or name in _LONG:
        kept = "\n\t" if name in _LONG else ""
        return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in value)
    return _Quoted(repr(value))
