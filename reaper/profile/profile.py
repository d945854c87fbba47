"""The model of a profile: jobs, witnesses, limits, attempts, actions, purge and fence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from reaper.model import TIMESTAMPTZ, StoredTime, TimestampFormat
from reaper.profile import validation
from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Attempts, Delete
from reaper.profile.base import Label, Match, Name, Names, Plain, ProfileModel, TableName, exactly_one
from reaper.profile.beside import Beside, BesideName, Place, place_of
from reaper.profile.choices import Choice
from reaper.profile.columns import TableColumn, columns, columns_copied_by
from reaper.profile.conditions import Conditions, Log, Related, Running, StartLostLog
from reaper.profile.real_tables import ColumnKind
from reaper.profile.sql_template import checked, columns_in
from reaper.profile.times import FORMATS_WITH_ZONE, Time, split_key
from reaper.profile.values import Seconds
from reaper.profile.witnesses import CeleryTask, Witness, WorkerWitness

VULS = frozenset({"vuls", "vuls-schedule"})
_OF_DATES = (TimestampFormat.TIMESTAMPTZ, TimestampFormat.NAIVE)


class KindName(ProfileModel):
    """The name of a job's kind: the `column` of the row of `table` that matches the job."""

    table: TableName
    match: Match
    column: Name


class JobMapping(ProfileModel):
    """The table of jobs. `started` lists columns by preference: the first that is not NULL counts.

    A job whose `claim` columns (a worker's id, a lock token) change between the survey and the lock is not ended. The
    column `holder` names the worker or the server that works on the job. Rows of `parts` belong to a job and are locked
    with it: a job whose parts cannot all be locked is left alone. Where the column `kind` has only a number,
    `kind_name` says where its name is. `beside` are rows of other tables, one for each job: the column `kind` of the
    row `args` is `args.kind`.
    """

    table: TableName
    key: Names
    kind: Name | None = None
    kind_name: KindName | None = None
    queue: Name | None = None
    status: Name | None = None
    started: Names
    claim: tuple[Name, ...] = ()
    holder: Name | None = None
    running: Running | None = None
    log: Log | None = None
    parts: tuple[Related, ...] = ()
    beside: Mapping[BesideName, Beside] = {}

    @model_validator(mode="after")
    def _row_or_log(self) -> JobMapping:
        exactly_one(self, "running", "log")
        if self.kind_name is not None and self.kind is None:
            raise ValueError("'kind_name' requires 'kind', which counts where no row has a name")
        return self

    @property
    def state(self) -> str | None:
        """The column with a job's state."""
        return (self.running.column if self.running else None) or self.status

    def place_of(self, column: str) -> Place:
        """Where one of the job's columns is: in its own row, or in one beside it."""
        return place_of(column, self.beside)


class LimitColumn(ProfileModel):
    """The column with a job's own threshold, in `unit`, or `sql` that makes it of columns of its row. NULL: that of the
    kind, the source or the default applies.

    A column of intervals needs no unit.
    """

    column: Name | None = None
    sql: Annotated[str, Field(min_length=1), AfterValidator(checked)] | None = None
    unit: Literal["ms", "s", "m", "h"] = "s"

    @model_validator(mode="after")
    def _column_or_sql(self) -> LimitColumn:
        exactly_one(self, "column", "sql")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that it is made of."""
        return [self.column] if self.column else columns_in(self.sql or "")

    @property
    def seconds(self) -> float:
        """The seconds in one unit."""
        return {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[self.unit]


class Limits(ProfileModel):
    """Thresholds in the job's own row: how long it may run, and how long it may be silent."""

    timeout: LimitColumn | None = None
    stall: LimitColumn | None = None

    @model_validator(mode="after")
    def _has_limit(self) -> Limits:
        if self.timeout is None and self.stall is None:
            raise ValueError("expected 'timeout', 'stall' or both")
        return self

    @property
    def by_name(self) -> Mapping[str, LimitColumn]:
        """The limits that are given, by their names."""
        limits = {"timeout": self.timeout, "stall": self.stall}
        return {name: limit for name, limit in limits.items() if limit is not None}


class PurgeRules(ProfileModel):
    """Which jobs are finished (`where`), since when (`at`), and which rows are deleted with a job (`also`).

    A job is kept while a row exists for any of `needed`.
    """

    where: Annotated[Conditions, Field(min_length=1)]
    at: Names
    needed: tuple[Related, ...] = ()
    also: tuple[Delete, ...] = ()


class Fence(ProfileModel):
    """Writes that pass the fence: those that set a reaped job to one of the states `again`, to be started again."""

    again: tuple[Plain, ...] = ()


class Suggested(ProfileModel):
    """Thresholds that fit the system's own heartbeats and recovery. `reaper init` writes them into the source."""

    timeout: Annotated[Seconds, Field(gt=0)]
    stall: Annotated[Seconds, Field(gt=0)]


class Profile(ProfileModel):
    """How the jobs of one system are read, judged and ended."""

    name: str
    description: str = ""
    search_path: tuple[Name, ...] = ()
    time: Time = TIMESTAMPTZ
    times: Mapping[Label, Time] = {}
    jobs: JobMapping
    alive: tuple[Witness, ...] = ()
    limits: Limits | None = None
    suggested: Suggested | None = None
    attempts: Attempts | None = None
    actions: Mapping[Label, Action]
    purge: PurgeRules | None = None
    fence: Fence | None = None
    choices: Mapping[Label, Choice] = {}

    _lineage: tuple[str, ...] = PrivateAttr(default=())
    _byte_columns: Mapping[str, Mapping[str, int]] = PrivateAttr(default={})
    _column_kinds: Mapping[str, Mapping[str, ColumnKind]] = PrivateAttr(default={})
    _zone: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        validation.check(self)
        return self

    def extending(self, lineage: tuple[str, ...]) -> Profile:
        """The profile with this lineage."""
        profile = self.model_copy()
        profile._lineage = lineage
        return profile

    def in_zone(self, zone: str | None) -> Profile:
        """The profile of a source whose moments without a zone are in this one, where the profile says no other."""
        profile = self.model_copy()
        profile._zone = zone
        return profile

    def on_database(
        self, byte_columns: Mapping[str, Mapping[str, int]], column_kinds: Mapping[str, Mapping[str, ColumnKind]]
    ) -> Profile:
        """The profile on a database that has these columns of bytes, with the most bytes of each, and columns of these
        kinds: by table.
        """
        profile = self.model_copy()
        profile._byte_columns, profile._column_kinds = byte_columns, column_kinds
        return profile

    @property
    def zone(self) -> str | None:
        """The zone of the source's moments without one; None where the source does not say it."""
        return self._zone

    @property
    def column_kinds(self) -> Mapping[str, Mapping[str, ColumnKind]]:
        """The kinds of columns with moments and durations, by table, as far as the database is known."""
        return self._column_kinds

    @property
    def byte_columns(self) -> Mapping[str, Mapping[str, int]]:
        """The columns of bytes, by table, as far as the database is known, and the most bytes of each."""
        return self._byte_columns

    @property
    def lineage(self) -> tuple[str, ...]:
        """Its own name, and those of the profiles that it extends, the nearest first."""
        return self._lineage or (self.name,)

    @property
    def is_vuls(self) -> bool:
        """Whether it maps the tables of vuls: it is one of the two shipped profiles, or extends one."""
        return not VULS.isdisjoint(self.lineage)

    @property
    def needs_broker(self) -> bool:
        """Whether a witness inspects Celery's workers, which takes a broker."""
        return self.task is not None

    @property
    def task(self) -> CeleryTask | None:
        """The columns with a job's Celery task; None without such a witness."""
        return next((alive.celery for alive in self.alive if alive.celery), None)

    @property
    def worker(self) -> WorkerWitness | None:
        """Where the worker that holds a job is found; None without such a witness."""
        return next((alive.worker for alive in self.alive if alive.worker), None)

    def branches(self, action: str) -> tuple[tuple[bool | None, Action], ...]:
        """The transitions that one of `action_names` consists of.

        Each with the jobs that it is for: where it is a choice, those that get the first action (True) and the others
        (False); else all (None).
        """
        if action in self.actions:
            return ((None, self.actions[action]),)
        then, otherwise = self.branch_names(action)
        return ((True, self.actions[then]), (False, self.actions[otherwise]))

    def branch_names(self, action: str) -> tuple[str, str]:
        """The two actions between which one of `action_names` that is no single action chooses."""
        choice = self.choices.get(action)
        return (choice.then, choice.otherwise) if choice else ("requeue", "fail")

    @property
    def action_names(self) -> tuple[str, ...]:
        """The actions that can be taken for a stale job."""
        can_compose = self.attempts is not None and "requeue" in self.actions
        return (*self.actions, *self.choices, *([REQUEUE_ELSE_FAIL] if can_compose else []))

    def real_column(self, table: str, column: str) -> TableColumn:
        """The table and the column of a column of `table`: where that has the jobs, it may be in a row beside them."""
        if table != self.jobs.table:
            return table, column
        beside, real = self.jobs.place_of(column)
        return (table, real) if beside is None else (self.jobs.beside[beside].table, real)

    def time_of(self, table: str, column: str) -> StoredTime:
        """How a column stores moments, as is said for it and as far as its type is known."""
        table, column = self.real_column(table, column)
        said = self.said_time(table, column)
        kind = self._column_kinds.get(table, {}).get(column)
        if said.format in _OF_DATES and kind is not None:
            # The type says more than the file: MariaDB's TIMESTAMP has a zone of its own, and its DATETIME has none.
            said = TIMESTAMPTZ if kind == "zoned" else StoredTime(TimestampFormat.NAIVE, said.zone)
        if said.format in FORMATS_WITH_ZONE and said.zone is None:
            return said._replace(zone=self._zone)
        return said

    def said_time(self, table: str, column: str) -> StoredTime:
        """What the file says: of the column, else of its table, else of the profile."""
        table, column = self.real_column(table, column)
        return self.times.get(f"{table}.{column}", self.times.get(table, self.time))

    def time_key(self, key: str) -> tuple[str, str | None]:
        """The table of a key of `times`, and its column where it has one."""
        return split_key(key, self.tables)

    @property
    def tables(self) -> frozenset[str]:
        """Every table that the profile names."""
        return frozenset(self.columns())

    def with_start_lost(self) -> Profile | None:
        """The profile of the jobs whose start was lost; None where the profile does not look for them."""
        log = self.jobs.log
        if log is None or log.start_lost is None:
            return None
        same = {name: getattr(log, name) for name in Log.model_fields if name != "start_lost"}
        lost = StartLostLog(**same, since_seconds=log.start_lost.since)
        return self.model_copy(update={"jobs": self.jobs.model_copy(update={"log": lost})})

    def row_columns(self) -> frozenset[str]:
        """The columns of a job's row that transitions need, as they were before."""
        read = {name for action in self.actions.values() for name in columns_copied_by(action)}
        if self.attempts:
            read.update(self.attempts.columns)
        if task := self.task:
            read.add(task.task)
        return frozenset(read)

    def columns(self) -> dict[str, set[str]]:
        """Every column that the profile names, by table."""
        return columns(self)
