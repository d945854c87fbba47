"""Exceptions caused by the user or the environment. Each is shown as one message, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence

_MAX_KEY_LENGTH = 200


class ReaperError(Exception):
    """Base of the errors that are shown to the user as one message, without a traceback."""


class ConfigError(ReaperError):
    """The configuration is wrong. Has all problems at once, each with the place where it was set."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DatabaseUnavailable(ReaperError):
    """The database cannot be reached, or takes no changes now."""


class RowsHidden(ReaperError):
    """Row-level security may hide rows that decide: a row that is not seen may exist."""


class SpellingUnclear(ReaperError):
    """Names or values of the database differ from a profile's only by case, and which are meant is unclear.

    Has all problems at once.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class TableReplaced(SpellingUnclear):
    """A name of the profile leads to another table than at the first contact, and it is not known to be the same."""


class KeyNotUnique(ReaperError):
    """Two jobs that a command looks at have one key: ending or deleting one of them could do it to the other."""


def not_unique(columns: str) -> str:
    """What is wrong with a key of these columns."""
    return (
        f"jobs.key ({columns}) is not unique: there is no primary key or unique constraint on exactly these columns, "
        "so ending one job could end another"
    )


def key_not_unique(table: str, key: Sequence[str], example: Sequence[str]) -> KeyNotUnique:
    """The error for several jobs of a table that have the key `example`."""
    columns, values = ", ".join(map(repr, key)), "/".join(example)[:_MAX_KEY_LENGTH]
    return KeyNotUnique(
        f"{table}: {not_unique(columns)}; several jobs have the key {values!r}, and the source is refused until none do"
    )


class JobChanged(ReaperError):
    """The job is not as the caller saw it: it ended, is gone, was restarted, or another transaction holds it."""


class JobKept(JobChanged):
    """An operator holds the job, or its kind is one that is never ended."""


class MessageTooLong(ReaperError):
    """A column that an action writes an operator's message to has no room for it."""


class NotFenceable(ReaperError):
    """With this profile, a reaped job cannot be distinguished from others, or has no row."""


class SourceBusy(ReaperError):
    """The source is being swept, or another command works on it."""


class HaltInForce(ReaperError):
    """An operator has halted the reaper, so that it ends nothing."""


class SourceObserved(ReaperError):
    """The source is only observed: none of its jobs is ended."""


class QuietTime(ReaperError):
    """It is a quiet time of the source, in which nothing is ended."""


class StateUnavailable(ReaperError):
    """The state file cannot be read or written."""


class StateTooNew(StateUnavailable):
    """The state file was written by a newer version of the reaper."""


class PartialTransition(ReaperError):
    """The database made a transition without its audit event, or the other way round, and was rolled back."""


class LogBusy(ReaperError):
    """Other transactions have been writing to the log for longer than we wait for its lock."""


class NoSuchSource(ReaperError):
    """There is no source of that name."""


class TooManyFailures(ReaperError):
    """The database refused so many jobs that the cause is not a single job."""


class DaemonUnreachable(ReaperError):
    """No daemon can be reached at the address."""


class NoSuchJob(ReaperError):
    """No source has a job with that key."""


class NoSuchHold(ReaperError):
    """No operator holds a job with that key."""


class NotPurgeable(ReaperError):
    """The profile does not say which jobs are finished, or they cannot be deleted one by one."""


class ProbeUnavailable(ReaperError):
    """The witness outside the database could not be reached."""


class ProbeNotInstalled(ReaperError):
    """A package that the probe needs is not installed."""


class InconsistentProfile(ValueError):
    """Parts of a profile that are valid by themselves contradict each other. Has one line for each contradiction."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))
