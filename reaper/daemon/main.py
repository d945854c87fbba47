"""The daemon: creates and connects all its parts, and runs the main loop of the process."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from reaper import __version__
from reaper.common.background_gc import gc_in_background_thread
from reaper.config import Settings, SourceSettings
from reaper.daemon.reload import (
    changed_settings,
    edits_without_effect,
    needs_rebuild,
    needs_restart,
    same_database,
    validate,
)
from reaper.daemon.signals import Signals
from reaper.daemon.startup_recovery import StartupRecovery
from reaper.daemon.systemd import Systemd
from reaper.errors import ConfigError, ReaperError
from reaper.memory import Memory
from reaper.observers import logging_setup
from reaper.observers.daemon_log import DaemonLog
from reaper.observers.metrics import Metrics
from reaper.scheduling.cron_trigger import CronTrigger
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.web import AdminService, History, HttpServer, Status
from reaper.web.app import make_app
from reaper.web.guard import AccessControl, guarded, refuse_exposed

_TICK_SECONDS = 1.0
_STOP_SECONDS = 3.0
_RESUME_STOP_SECONDS = 0.5
_HTTP_STOP_SECONDS = 0.5
_REMOVE_SECONDS = 0.5
_MAX_CHANGES = 100
"""Of a reload, in the log."""

_log = structlog.get_logger("reaper")


def run(settings: Settings, reload: Callable[[], Settings]) -> int:
    """Run the daemon until SIGTERM or SIGINT. `reload` reads the configuration again, on SIGHUP.

    Returns the exit status. Raises ReaperError when the HTTP port is taken or the log file cannot be written.
    """
    try:
        logging_setup.configure(settings.log_level, settings.log_format, settings.log_file)
    except OSError as error:
        raise ReaperError(f"cannot write the log {settings.log_file}: {error.strerror or error}") from error
    signals = Signals()
    daemon = Daemon(settings)
    # What has been imported stays: garbage collections skip it. They took an eighth of the processor time of a sweep
    # that ends many jobs.
    gc.collect()
    gc.freeze()
    with gc_in_background_thread():
        daemon.start()
        while not signals.stop:
            signals.wait(_TICK_SECONDS)
            if signals.take_reload():
                with daemon.systemd.reloading():
                    daemon.reload(reload)
            daemon.tick()
        if daemon.stop():
            return 0
    # What is not committed is rolled back by the server when this process ends.
    daemon.report_unfinished()
    sys.stderr.flush()
    os._exit(0)


class Daemon:
    """Sources, schedule, observers and HTTP server of one process.

    Its parts are public: what a setting has become can be read from the part that uses it.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ReaperError when the HTTP port is taken, ConfigError when HTTP tokens are missing or unreadable."""
        self._settings = settings
        self.memory = Memory.open(settings.state_dir, _report_state_trouble)
        self._halt = halt = HaltSwitch(self.memory.halt)
        self.metrics, self._daemon_log, self.status = Metrics(halt), DaemonLog(), Status(halt)
        self.history = History()
        self.systemd = Systemd.from_environment(os.environ)
        self._subscribers = (self.metrics, self._daemon_log, self.status, self.history, self.systemd)
        self.supervisor = Supervisor(halt)
        self.startup = StartupRecovery(self._subscribers, halt, self.memory.stores)
        self.service = AdminService(self.supervisor, self.status, self.history, [self._daemon_log], self.memory.holds)
        self.service.metrics = self.metrics
        self.access_control = AccessControl()
        self.access_control.configure(settings)
        refuse_exposed(settings)
        app = guarded(make_app(self.service, self.metrics.registry), self.access_control)
        self.http = HttpServer(app, settings.http_host, settings.http_port) if settings.http_port else None

    def start(self) -> None:
        settings = self._settings
        _log.info(
            "Reaper starts.",
            version=__version__,
            pid=os.getpid(),
            sources=sorted(settings.sources),
            interval_seconds=settings.interval_seconds,
            http=self.http.address if self.http else None,
            config=str(settings.config_file) if settings.config_file else None,
            **({"borrowed": dict(settings.borrowed)} if settings.borrowed else {}),
        )
        for note in settings.notes:
            _log.info("Reaper ignores a variable that is not its own.", note=note)
        _report_missing_schedule(settings)
        if settings.http_exposed:
            _log.warning("Reaper's HTTP port can be reached from outside this machine.", host=settings.http_host)
        if not self.memory.durable:
            _log.info("Reaper keeps its state in memory only: no state directory is set (REAPER_STATE_DIR).")
        if (halted := self._halt.current) is not None:
            _log.warning(
                "Reaper is halted: it surveys its sources and ends no jobs.", by=halted.by, reason=halted.reason
            )
        self._publish_sources(settings)
        for source in settings.sources.values():
            runner = self._build_runner(settings, source)
            self._schedule(settings, runner)
            if source.close_interrupted_at_start and not self._halt.is_halted:
                self.startup.begin(settings, source, runner.source.decision)
        self.service.configure(settings)
        self.supervisor.start()
        # Last: what is asked from the first moment on, such as a halt, finds the sources and their schedule.
        if self.http:
            self.http.start()

    def tick(self) -> None:
        """One round of the main loop, once a second."""
        self.status.on_tick()
        self.supervisor.recover_from_clock_change()
        sources = self._settings.sources.keys()
        self.metrics.reaped_elsewhere(self.memory.reap_counts.take(sources))
        if reaps := self.memory.command_reaps.take(sources):
            self.service.history.reaped_elsewhere(reaps)
        self.systemd.on_tick(self.supervisor)

    def stop(self) -> bool:
        """Let running batches finish. Returns False when one does not finish in time."""
        _log.info("Reaper stops.")
        self.systemd.stopping()
        self.startup.stop(_RESUME_STOP_SECONDS)
        finished = self.supervisor.stop(_STOP_SECONDS)
        if self.http:
            self.http.stop(_HTTP_STOP_SECONDS)
        self.memory.close()
        if finished:
            _log.info("Reaper has stopped.")
        return finished

    def report_unfinished(self) -> None:
        """Log what `stop` could not wait for."""
        unfinished, limit = self.supervisor.unfinished, self.systemd.stall_limit_seconds
        sweeps = [worker for worker in unfinished if isinstance(worker, SourceRunner)]
        if hanging := [runner.name for runner in sweeps if runner.still_seconds > limit]:
            _log.warning(
                "Reaper stops although a sweep hangs; the database server rolls back its transaction.", sources=hanging
            )
        if len(hanging) < len(unfinished):
            _log.warning(
                "Reaper stops before a sweep or a purge has ended; the database server rolls back its transaction.",
                sweeps=[runner.name for runner in sweeps if runner.name not in hanging],
                purges=[worker.name for worker in unfinished if not isinstance(worker, SourceRunner)],
            )

    def reload(self, read: Callable[[], Settings]) -> None:
        """Apply a new configuration; if it is wrong, log why, and keep the old one.

        Tokens that their file no longer contains are revoked in any case.
        """
        try:
            fresh = read()
            validate(fresh)
            changed = {
                runner.name: runner
                for runner in self.supervisor.runners
                if needs_rebuild(runner.name, self._settings, fresh)
            }
            runners = self._build_runners(fresh, changed)
            self.access_control.configure(fresh)
        except ConfigError as error:
            _log.error("Reaper refused the new configuration; the old one stays in force.", problems=error.problems)
            self._keep_configuration(error.problems)
            return
        except Exception as defect:  # noqa: BLE001  the old configuration works: keep it
            problem = f"{type(defect).__name__}: {defect}"
            _log.exception("Reaper refused the new configuration; the old one stays in force.", problems=[problem])
            self._keep_configuration([problem])
            return
        self._apply(fresh, changed, runners)
        self._report_reload([])

    def _keep_configuration(self, problems: Sequence[str]) -> None:
        """A reload was refused."""
        file = self._settings.read_token_file()
        if revoked := self.access_control.tokens.revoke_missing(file):
            _log.warning(
                "Reaper has revoked HTTP tokens: their file no longer contains them.",
                tokens=revoked,
                problems=file.problems,
            )
        self._report_reload(problems)

    def _report_reload(self, problems: Sequence[str]) -> None:
        """Report the result of a reload to metrics, health and systemd."""
        self.metrics.reloaded(problems)
        self.status.reloaded(problems)
        self.systemd.reloaded(problems)

    def _build_runners(self, fresh: Settings, changed: Mapping[str, SourceRunner]) -> list[SourceRunner]:
        """Runners for new and changed sources. Changes nothing else."""
        kept = {runner.name for runner in self.supervisor.runners} - changed.keys()
        runners = []
        for name in fresh.sources.keys() - kept:
            # Known downtime of a database stays valid, whatever else has changed.
            keeps_database = name in changed and same_database(name, self._settings, fresh)
            runners.append(
                self._build_runner(fresh, fresh.sources[name], changed[name].downtime if keeps_database else None)
            )
        return runners

    def _apply(self, fresh: Settings, changed: Mapping[str, SourceRunner], runners: Iterable[SourceRunner]) -> None:
        old, self._settings = self._settings, fresh
        if waiting := needs_restart(old, fresh):
            _log.warning(
                "A changed HTTP address, state directory or log file takes effect only after a restart.",
                settings=waiting,
            )
        if hidden := edits_without_effect(old, fresh):
            _log.warning("Edits of the configuration have no effect: something has precedence.", edits=hidden)
        logging_setup.reconfigure(fresh.log_level, fresh.log_format)
        self.supervisor.remove(changed, _REMOVE_SECONDS)
        self._publish_sources(fresh)
        kept = {runner.name for runner in self.supervisor.runners}
        for runner in self.supervisor.runners:
            runner.source.decision.renew()
        for runner in runners:
            runner.downtime.set_grace(fresh.restart_grace_seconds)
            self._schedule(fresh, runner)
        self.service.configure(fresh)
        changed_lines = changed_settings(old, fresh)
        _log.info(
            "Reaper has a new configuration.",
            sources=sorted(fresh.sources),
            kept=sorted(kept),
            changed=changed_lines[:_MAX_CHANGES],
            **({"more_changes": len(changed_lines) - _MAX_CHANGES} if len(changed_lines) > _MAX_CHANGES else {}),
        )
        _report_missing_schedule(fresh)

    def _schedule(self, settings: Settings, runner: SourceRunner) -> None:
        """Schedule the sweeps of the source, and its purges if they are configured."""
        self.supervisor.add(runner)
        purge = settings.sources[runner.name].purge
        if purge.cron is not None:
            listeners = (self.metrics, self._daemon_log)
            keep, size = purge.days_to_keep, purge.batch_size
            refused_jobs = self.memory.refused_jobs
            scheduled_purge = ScheduledPurge(runner.source, keep, size, listeners, self._halt, refused_jobs)
            self.supervisor.add_scheduled_purge(scheduled_purge, CronTrigger(purge.cron))

    def _publish_sources(self, settings: Settings) -> None:
        """Tell all observers which sources exist."""
        timeouts = {name: source.longest_timeout for name, source in settings.sources.items()}
        self.metrics.set_sources(settings.sources, settings.interval_seconds, timeouts)
        self.status.set_sources(settings.sources, settings.interval_seconds)
        self._daemon_log.set_sources(settings.sources)
        self.history.set_sources(settings.sources)
        self.systemd.set_sources(settings)

    def _build_runner(
        self, settings: Settings, source: SourceSettings, downtime: DowntimeTracker | None = None
    ) -> SourceRunner:
        return SourceRunner(
            create_source(settings, source, stores=self.memory.stores),
            downtime or DowntimeTracker(settings.restart_grace_seconds),
            RetrySchedule(settings.interval_seconds),
            Breaker.from_settings(settings),
            settings.batch_size,
            socket.gethostname(),
            self._subscribers,
            self._halt,
            self.memory.contacts,
            self.memory.refused_jobs,
        )


def _report_missing_schedule(settings: Settings) -> None:
    if settings.without_sources:
        _log.warning(
            "Reaper has no schedule: it sweeps nothing until a source is configured and the configuration is reloaded.",
            origin=settings.origins["sources"],
        )


def _report_state_trouble(problem: str) -> None:
    _log.warning("Reaper's state file cannot be used; sweeps go on.", problem=problem)
