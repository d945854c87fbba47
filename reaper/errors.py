"""Exceptions. What the user did or what the environment does; each is shown as one message, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class ReaperError(Exception):
    """Anything that is told to the user in one message, without a traceback."""


class ConfigError(ReaperError):
    """The configuration is wrong. All problems at once, each naming its source."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DatabaseUnavailable(ReaperError):
    """The database cannot be reached, or cannot be written to just now."""


class RowsHidden(ReaperError):
    """Rows that decide may be kept from the reaper's role: what is not seen there is not absent."""


class JobChanged(ReaperError):
    """The job is not what the caller saw: ended, gone, restarted, or held by somebody else."""


class NotFenceable(ReaperError):
    """The row of a job that was ended by this profile cannot be told from others, or there is none."""


class SourceBusy(ReaperError):
    """The source is being swept, or somebody else is at work on it."""


class StateUnavailable(ReaperError):
    """The state file cannot be read or written."""


class StateTooNew(StateUnavailable):
    """The state file was written by a newer version of the reaper."""


class PartialTransition(ReaperError):
    """The database made a transition without its audit event, or the other way round, and was rolled back."""


class LogBusy(ReaperError):
    """Somebody has been writing to the log for longer than we wait."""


class NoSuchSource(ReaperError):
    """No source of that name is watched."""


class TooManyFailures(ReaperError):
    """The database refuses one job after the other: something is wrong with all of them."""


class DaemonUnreachable(ReaperError):
    """No daemon can be reached there."""


class NoSuchJob(ReaperError):
    """No source has a job of that name."""


class NotPurgeable(ReaperError):
    """The profile does not say which jobs are finished, or they cannot be deleted one by one."""


class ProbeUnavailable(ReaperError):
    """The witness could not be told."""


class ProbeNotInstalled(ReaperError):
    """What the witness is made of is not installed."""


class InconsistentProfile(ValueError):
    """Parts of a profile that are right by themselves do not fit together: one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))
