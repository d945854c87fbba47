"""The only place that wires everything together, and the process's main loop."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType

import structlog

from reaper import __version__, lean, logs
from reaper.admin import Desk, History, Server, Status
from reaper.admin.app import make_app
from reaper.admin.security import Gate, guarded, refuse_exposed
from reaper.breaker import Breaker
from reaper.garbage import collected_apart
from reaper.halt import Halt
from reaper.hearing import Hearing
from reaper.journal import Journal
from reaper.making import make_source
from reaper.metrics import Metrics
from reaper.model import ConfigError, ReaperError
from reaper.operations.retention import Retention
from reaper.reconfiguring import differs, examine, same_database, waits_for_a_restart
from reaper.settings import Settings, SourceSettings
from reaper.startup import Startup
from reaper.supervisor import Calendar, Supervisor
from reaper.systemd import Systemd
from reaper.watch import Pace, Watch

_TURN_SECONDS = 1.0
_STOP_SECONDS = 3.0
_RESUME_STOP_SECONDS = 0.5
_HTTP_STOP_SECONDS = 0.5
_LEAVE_SECONDS = 0.5

_log = structlog.get_logger("reaper")


def run(settings: Settings, reload: Callable[[], Settings]) -> int:
    """Sweep until SIGTERM or SIGINT. `reload` reads the configuration again, for SIGHUP.

    Returns the exit status. Raises ReaperError when the HTTP port or the log file cannot be had.
    """
    try:
        logs.set_up(settings.log_level, settings.log_format, settings.log_file)
    except OSError as error:
        raise ReaperError(f"cannot write the log {settings.log_file}: {error.strerror or error}") from error
    signals = Signals()
    daemon = Daemon(settings)
    lean.settle()
    with collected_apart():
        daemon.start()
        while not signals.stop:
            signals.wait(_TURN_SECONDS)
            if signals.take_reload():
                with daemon.systemd.reloading():
                    daemon.reload(reload)
            daemon.turn()
        if daemon.stop():
            return 0
    # A sweep hangs in the database. Its transaction is not committed: the server rolls it back when we are gone.
    _log.warning("Reaper stops without waiting for a sweep that hangs.")
    sys.stderr.flush()
    os._exit(0)


class Signals:
    """What has been asked of the process from outside."""

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        # A handler may interrupt the waiting thread anywhere, even inside `wait`: an Event's lock would then be
        # waited for by the one who holds it. This queue is made for that.
        self._came: SimpleQueue[int] = SimpleQueue()
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def wait(self, seconds: float) -> None:
        """Until a signal comes, at most `seconds`."""
        with suppress(Empty):
            self._came.get(timeout=seconds)

    def take_reload(self) -> bool:
        if not self._reload:
            return False
        self._reload = False
        return True

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self.stop = True
        self._came.put(number)

    def _on_reload(self, number: int, _frame: FrameType | None) -> None:
        self._reload = True
        self._came.put(number)


class Daemon:
    """Sources, schedule, metrics, log and HTTP of one process."""

    def __init__(self, settings: Settings) -> None:
        """Raises ReaperError when the HTTP port is taken, ConfigError when its tokens cannot be read or are missing."""
        self._settings = settings
        self._halt = halt = Halt(settings.state_dir)
        self._metrics, self._journal, self._status = Metrics(halt), Journal(), Status(halt)
        self._history = History()
        self.systemd = Systemd.of(os.environ)
        self._subscribers = (self._metrics, self._journal, self._status, self._history, self.systemd)
        self._supervisor = Supervisor(halt)
        self._startup = Startup(self._subscribers, halt)
        self._desk = Desk(self._supervisor, self._status, self._history, [self._journal])
        self._gate = Gate()
        self._gate.configure(settings)
        refuse_exposed(settings)
        app = guarded(make_app(self._desk, self._metrics.registry), self._gate)
        self._http = Server(app, settings.http_host, settings.http_port) if settings.http_port else None

    def start(self) -> None:
        settings = self._settings
        _log.info(
            "Reaper starts.",
            version=__version__,
            pid=os.getpid(),
            sources=sorted(settings.sources),
            interval_seconds=settings.interval_seconds,
            http=self._http.address if self._http else None,
            config=str(settings.config_file) if settings.config_file else None,
        )
        if settings.http_exposed:
            _log.warning("Reaper's HTTP port can be reached from outside this machine.", host=settings.http_host)
        if (halted := self._halt.now) is not None:
            _log.warning("Reaper is halted: it looks, and ends nothing.", by=halted.by, reason=halted.reason)
        self._announce(settings)
        if self._http:
            self._http.start()
        for source in settings.sources.values():
            self._add(settings, self._watch(settings, source))
            if source.resume_at_start and not self._halt.on:
                self._startup.begin(settings, source)
        self._desk.open(settings)
        self._supervisor.start()

    def turn(self) -> None:
        """Once a second."""
        self._status.turned()
        self._supervisor.put_right()
        self.systemd.turned(self._supervisor)

    def stop(self) -> bool:
        """Finish the batches in hand. False when one cannot be finished in time."""
        _log.info("Reaper stops.")
        self.systemd.stopping()
        self._startup.stop(_RESUME_STOP_SECONDS)
        finished = self._supervisor.stop(_STOP_SECONDS)
        if self._http:
            self._http.stop(_HTTP_STOP_SECONDS)
        if finished:
            _log.info("Reaper has stopped.")
        return finished

    def reload(self, read: Callable[[], Settings]) -> None:
        """Put a new configuration into force, or say why the old one stays."""
        try:
            fresh = read()
            examine(fresh)
            changed = {
                watch.name: watch for watch in self._supervisor.watches if differs(watch.name, self._settings, fresh)
            }
            made = self._make_anew(fresh, changed)
            self._gate.configure(fresh)
        except ConfigError as error:
            _log.error("Reaper keeps its configuration: the new one is wrong.", problems=error.problems)
            self._reloaded(error.problems)
            return
        except Exception as defect:  # noqa: BLE001  what works is not thrown away, whatever it is
            problem = f"{type(defect).__name__}: {defect}"
            _log.exception("Reaper keeps its configuration: the new one is wrong.", problems=[problem])
            self._reloaded([problem])
            return
        self._replace(fresh, changed, made)
        self._reloaded([])

    def _reloaded(self, problems: Sequence[str]) -> None:
        """Tell everybody who is asked later: what is wrong with a new configuration, or that nothing is."""
        self._metrics.reloaded(problems)
        self._status.reloaded(problems)
        self.systemd.reloaded(problems)

    def _make_anew(self, fresh: Settings, changed: Mapping[str, Watch]) -> list[Watch]:
        """The watches that the new configuration asks for and that are not there yet. Changes nothing."""
        kept = {watch.name for watch in self._supervisor.watches} - changed.keys()
        made = []
        for name in fresh.sources.keys() - kept:
            # What was heard of a database stays true, whatever else is new.
            heard = name in changed and same_database(name, self._settings, fresh)
            made.append(self._watch(fresh, fresh.sources[name], changed[name].hearing if heard else None))
        return made

    def _replace(self, fresh: Settings, changed: Mapping[str, Watch], made: Iterable[Watch]) -> None:
        old, self._settings = self._settings, fresh
        if waits_for_a_restart(old, fresh):
            _log.warning("Reaper's HTTP address, state directory and log file change only with a restart.")
        logs.adjust(fresh.log_level, fresh.log_format)
        self._supervisor.remove(changed, _LEAVE_SECONDS)
        self._announce(fresh)
        kept = {watch.name for watch in self._supervisor.watches}
        for watch in made:
            watch.hearing.allow(fresh.restart_grace_seconds)
            self._add(fresh, watch)
        self._desk.open(fresh)
        _log.info("Reaper has a new configuration.", sources=sorted(fresh.sources), kept=sorted(kept))

    def _add(self, settings: Settings, watch: Watch) -> None:
        """Sweep the source, and purge it when its configuration says at what times."""
        self._supervisor.add(watch)
        wanted = settings.sources[watch.name].purge
        if wanted.cron is not None:
            listeners = (self._metrics, self._journal)
            retention = Retention(watch.source, wanted.days_to_keep, wanted.batch_size, listeners, self._halt)
            self._supervisor.add_retention(retention, Calendar(wanted.cron))

    def _announce(self, settings: Settings) -> None:
        """Tell everybody who listens which sources there are."""
        timeouts = {name: source.longest_timeout for name, source in settings.sources.items()}
        self._metrics.watch(settings.sources, settings.interval_seconds, timeouts)
        self._status.watch(settings.sources, settings.interval_seconds)
        self._journal.watch(settings.sources)
        self._history.watch(settings.sources)
        self.systemd.watch(settings)

    def _watch(self, settings: Settings, source: SourceSettings, hearing: Hearing | None = None) -> Watch:
        return Watch(
            make_source(settings, source),
            hearing or Hearing(settings.restart_grace_seconds),
            Pace(settings.interval_seconds),
            Breaker(settings.breaker_min, settings.breaker_share),
            settings.batch_size,
            socket.gethostname(),
            self._subscribers,
            self._halt,
        )
