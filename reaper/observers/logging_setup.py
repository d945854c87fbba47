"""Logging setup: JSON or console lines, to stderr or to a file that logrotate may rename."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from reaper.common.owned_file import create_owned
from reaper.common.terminal import clipped, shown, to_stderr

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)
_MULTILINE = frozenset({"exception", "stack"})
"""Fields with several lines."""
_FIRST = ("timestamp", "level", "event")
MAX_TEXT, MAX_MULTILINE = 1_000, 20_000
"""Characters of a text in a log line, and of a traceback. What is longer is cut: one row could fill the disk."""
_PROCESSORS: tuple[Processor, ...] = (
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)


class LogFile(WatchedFileHandler):
    """A log file that is opened again after logrotate has renamed it.

    While it cannot be written, lines go to stderr: a broken log must not stop the sweeps. Each line tries the file
    first, so that the log goes on there as soon as it can be written again.
    """

    def _open(self) -> TextIOWrapper:
        _create_for_folder_owner(Path(self.baseFilename))
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self._forget_stream()
        with suppress(OSError, ValueError):  # stderr may be closed, or on the same full disk
            print(to_stderr(self.format(record), record.levelno), file=sys.stderr, flush=True)  # noqa: T201

    def _forget_stream(self) -> None:
        """The next line opens the file again: a stream that has failed may fail for ever, since it keeps the line."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.close()


class LogStream(logging.StreamHandler[TextIO]):
    """stderr, whatever that is: a terminal, a file, or the journal."""

    def format(self, record: logging.LogRecord) -> str:
        return to_stderr(super().format(record), record.levelno)


def configure(level: str, log_format: str, file: Path | None) -> None:
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
    # It warns each time that a run is skipped because the previous one is not over; the metrics show that.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    structlog.configure(
        processors=_PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    reconfigure(level, log_format)


def reconfigure(level: str, log_format: str) -> None:
    """Change level and format of what `configure` set up. The destination stays."""
    logging.getLogger("reaper").setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_formatter(log_format, terminal=_is_terminal(handler)))


@contextmanager
def standalone_logger(level: str, log_format: str, file: Path | None) -> Iterator[Any]:
    """A logger with a handler of its own, for a process whose logging another program configures.

    Raises OSError when the file cannot be written.
    """
    handler = _handler(file)
    handler.setFormatter(_formatter(log_format, terminal=_is_terminal(handler)))
    # Not `logging.getLogger`: the program may have added handlers to that logger.
    logger = logging.Logger("reaper", level.upper())
    logger.addHandler(handler)
    try:
        yield structlog.wrap_logger(logger, processors=_PROCESSORS, wrapper_class=structlog.stdlib.BoundLogger)
    finally:
        handler.close()


def _handler(file: Path | None) -> logging.Handler:
    return LogFile(file, encoding="utf-8") if file else LogStream()


def _create_for_folder_owner(file: Path) -> None:
    """When root creates the log in a folder of the service's user, that user owns it: the service must write to it."""
    folder = file.parent.stat()
    if os.geteuid() != 0 or folder.st_uid == 0:
        return
    with suppress(FileExistsError):
        create_owned(file, folder)


def _is_terminal(handler: logging.Handler) -> bool:
    return not isinstance(handler, LogFile) and sys.stderr.isatty()


def _formatter(log_format: str, *, terminal: bool) -> logging.Formatter:
    as_json = log_format == "json" or (log_format == "auto" and not terminal)
    console: tuple[Processor, ...] = (_escape_fields, structlog.dev.ConsoleRenderer(colors=terminal))
    renderers = (_first_fields_first, structlog.processors.JSONRenderer()) if as_json else console
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _clip_fields, *renderers],
    )


def _first_fields_first(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When, how bad, what: a line that a terminal or a log viewer cuts still says these."""
    first = {name: fields[name] for name in _FIRST if name in fields}
    return {**first, **fields}


class _Quoted(str):
    """Text that is quoted already; the renderer must not quote it again."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _clip_fields(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut every text, also inside of lists and mappings, in every format."""
    return {
        clipped(name, MAX_TEXT): _clip(value, MAX_MULTILINE if name in _MULTILINE else MAX_TEXT)
        for name, value in fields.items()
    }


def _clip(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return clipped(value, most)
    if isinstance(value, Mapping):
        return {clipped(str(name), most): _clip(inner, most) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clip(inner, most) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float)) else clipped(str(value), most)


def _escape_fields(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters, which would otherwise control the terminal.

    The console renderer quotes only text with a space, a quote or a newline, and writes names as they are.
    """
    return {shown(name): _escape(name, value) for name, value in fields.items()}


def _escape(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    if name == "event" or name in _MULTILINE:
        kept = "\n\t" if name in _MULTILINE else ""
        return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in value)
    return _Quoted(repr(value))
