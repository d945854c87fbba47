"""One place where jobs live: a database and a profile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

from sqlalchemy import Connection, TableClause
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock, transaction
from reaper.database.dialect import dialect_of
from reaper.database.errors import ErrorKind, classify
from reaper.database.lease import Lease
from reaper.database.server_identity import database_address
from reaper.database.timeouts import Timeouts
from reaper.errors import QuietTime, RowsHidden, SourceObserved, StateUnavailable, TableReplaced
from reaper.liveness import LivenessProbe
from reaper.liveness.unproven_broker import UnprovenBroker
from reaper.model import FutureSigns, JobHold, Key, LockHolder, ReapedJob, Reason, Thresholds
from reaper.profile import Profile
from reaper.profile.columns import TableColumn
from reaper.profile.name_spelling import Spelling
from reaper.profile.related_tables import liveness_tables
from reaper.source.audit_trail import AuditEvent
from reaper.source.database_access import DatabaseAccess
from reaper.source.ending_cap import EndingCap
from reaper.source.event_log_lock import locks_log
from reaper.source.first_seen import jobs_without_start
from reaper.source.future_signs import add_found, future_states
from reaper.source.interrupted_jobs import Restart, interrupted_predicate
from reaper.source.job_lookup import JobLookup
from reaper.source.kept_jobs import JobHolds
from reaper.source.local_time_columns import local_columns
from reaper.source.local_time_proof import APART_SECONDS, LocalLook, known_after, look, why_unknown
from reaper.source.name_spelling_decision import SpellingDecision, read_spelling
from reaper.source.other_units import columns_in_other_unit
from reaper.source.post_transition_state import PostTransition
from reaper.source.reap import Claim
from reaper.source.requeue_counts import RequeueLimit
from reaper.source.slow_survey import rows_written, what_slows_survey
from reaper.source.statements import SourceStatements
from reaper.source.survey import Survey
from reaper.source.table_changes import TableChanges, read_table_changes, reasons_not_to_follow
from reaper.source.transition.audit_event import AuditInfo
from reaper.source.transition.second_check import Predicate, is_any, is_stale, is_worker_lost
from reaper.source.unique_key import key_is_unique, require_unique_key, shared_by_running_query
from reaper.source.worker_look import worker_look
from reaper.sql.tables import ProfileTables
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.future_signs import SeenSign, SeenStates, witnesses_ahead
from reaper.staleness.lost_workers import LostWorkers, lost_among
from reaper.staleness.parameters import RuleParameters
from reaper.staleness.quiet_times import ALWAYS_LOUD, QuietTimes
from reaper.staleness.reap_moments import KeptReap, ReapedRows, bare_table, moment_text, silent_tables
from reaper.staleness.unknown_moments import columns_of_numbers, columns_without_zone

_SPELLING_SECONDS = 10.0
_ZONE_SECONDS = 600.0
_AS_CONFIGURED = Spelling()
_NOTHING_JUDGED = "signs of life that are not seen are no silence, so nothing is judged"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options of one source.

    `action` is what is done with its stale jobs. `probe` is asked about them once per sweep; their tasks wait in
    `queues`. A job that a live worker executes is left alone until it is older than `max_age` seconds. `reaped_rows`
    keeps what the reaper wrote to rows, and is asked for it; `remembers`: another source wants to know what this one
    writes, or this one itself. `future_signs` keeps which signs of life in the future were seen, `first_seen`
    when jobs without a start were, `local_columns` which columns are proven to be in local time, `holds` which jobs
    operators hold. Jobs of a log whose start was lost are looked for with "show"; with "end", sweeps end them too. Jobs
    of a kind that matches one of the patterns in `never` are not ended, and none is ended while it is `quiet`. `cap`
    holds sweeps that would end too many in a while. `observed` says where it was set that nothing is ended; None: jobs
    are. A worker is gone after `gone_after_seconds`, and a sweep then takes `worker_lost_action` for its jobs; None: it
    does not look at workers. `worker_states` keeps the workers as they were seen. `requeue_limit` says how often sweeps
    start a job again before they fail it; None: without end.
    """

    action: str = "fail"
    probe: LivenessProbe | None = None
    queues: tuple[str, ...] = ()
    max_age: float | None = None
    reaped_rows: ReapedRows | None = None
    future_signs: SeenStates | None = None
    first_seen: SeenStates | None = None
    local_columns: SeenStates | None = None
    holds: JobHolds | None = None
    cap: EndingCap | None = None
    never: tuple[str, ...] = ()
    quiet: QuietTimes = ALWAYS_LOUD
    never_origin: str = "default"
    remembers: bool = False
    start_lost: Literal["off", "show", "end"] = "show"
    observed: str | None = None
    worker_states: SeenStates | None = None
    gone_after_seconds: float | None = None
    worker_lost_action: str = "fail"
    requeue_limit: RequeueLimit | None = None

    @property
    def why_observed(self) -> str | None:
        """Why nothing is ended, in words; None where jobs are."""
        return None if self.observed is None else f"observed only (observe = true, {self.observed}): nothing is ended"


class Source(DatabaseAccess):
    """A profile on a database: what the sweep and the commands need to judge jobs and to end them.

    At the first contact the profile is spelled as the database spells it. Read `profile`, and whatever is made from it,
    on a connection: before the first contact it is the configured one.
    """

    def __init__(
        self,
        name: str,
        url: str,
        profile: Profile,
        thresholds: Thresholds,
        timeouts: Timeouts,
        options: SourceOptions = SourceOptions(),
        decision: SpellingDecision | None = None,
        spelling: Spelling = _AS_CONFIGURED,
    ) -> None:
        """`decision` is shared by the sources of one database and profile: all have the same spelling.

        `spelling` is what is known before the first contact.
        """
        super().__init__(name, url, timeouts)
        self.configured_profile, self.thresholds, self.options = profile, thresholds, options
        self.decision = decision or SpellingDecision()
        self.spelling = spelling
        self._spelling_lock = threading.Lock()
        self._url = url
        self._follows = False  # a table in the place of another one, since the last evaluation
        self.diverted: tuple[str, ...] = ()
        """Which bare names mean other tables to the role than at the first contact, in words, for people."""
        self._local_columns: dict[TableColumn, str] = {}
        self._other_units: Mapping[TableColumn, str] = {}
        self._zone_read_at = -math.inf
        self._bind(profile, spelling)

    def _bind(self, profile: Profile, spelling: Spelling) -> None:
        """Work with this profile from now on, which is spelled so already."""
        self._schemas, self._identities = spelling.schemas, spelling.identities_in(profile)
        self.lookup_schemas = tuple(dict.fromkeys((*profile.search_path, *spelling.type_schemas)))
        silent = tuple(silent_tables(profile))
        rule_parameters = RuleParameters(
            self.thresholds,
            self.options.queues,
            self.options.max_age,
            silent,
            columns_without_zone(profile),
            self.options.never,
            self.options.gone_after_seconds,
        )
        self.statements = SourceStatements(profile, rule_parameters, self._schemas, self._identities)
        self.profile = profile = self.statements.profile
        self._liveness_tables = liveness_tables(profile)
        branches = [action for _, action in profile.branches(self.options.action)]
        self.has_fallback = any(action.unique_violation == "fail" for action in branches)
        """Whether a job is failed when a unique key does not allow its transition."""
        self.batches_share_locks = locks_log(profile) or bool(profile.jobs.parts)
        """Whether two batches may need the same log, or the same rows that belong to their jobs."""
        self.survey = Survey(self.statements)
        self.lookup = JobLookup(
            self.statements,
            self.options.action,
            self.options.worker_lost_action,
            # Not a method of this source: the look-up would hold it, and its sessions, when it is dropped.
            partial(_requeues_used_up, self.options.requeue_limit, self._place),
        )
        self.post_transition = PostTransition(self.statements)
        lost = profile.with_start_lost() if self.options.start_lost != "off" else None
        same = self.thresholds, self.timeouts, self.options, None, spelling
        self.start_lost = Source(self.name, self._url, lost, *same) if lost is not None else None
        """The jobs of the same log whose start was lost, to be used on connections of this source; None: not looked
        for."""

    @property
    def tables(self) -> ProfileTables:
        """The tables of the profile, for one thread."""
        return ProfileTables(self.profile, self._schemas, self._identities)

    @property
    def views(self) -> tuple[Source, ...]:
        """This source, and the jobs whose start was lost where these are looked for."""
        return (self,) if self.start_lost is None else (self, self.start_lost)

    @property
    def swept_views(self) -> tuple[Source, ...]:
        """Those of the views whose jobs a sweep ends."""
        return self.views if self.options.start_lost == "end" else (self,)

    # --- spelling ------------------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """Spells the profile as the database does. Raises SpellingUnclear, and DBAPIError when it cannot be read."""
        if self.decision.current is self.spelling:
            return
        with self._spelling_lock:
            spelling = self.decision.make(lambda: self._read_spelling(connection))
            known = self._identities
            if not spelling.same_names(self.spelling):
                self._bind(spelling.applied_to(self.configured_profile), spelling)
            self.spelling = spelling
            self._follows |= any(known.get(name, it) != it for name, it in self._identities.items())

    def _read_spelling(self, connection: Connection) -> Spelling:
        timeouts = replace(self.timeouts, statement=min(self.timeouts.statement, _SPELLING_SECONDS))
        with transaction(connection, timeouts, read_only=True):
            dialect = dialect_of(connection)
            path = dialect.own_schemas(connection)
            return read_spelling(dialect, lambda query: connection.execute(query).all(), self.configured_profile, path)

    # --- judging -------------------------------------------------------------------------------------------------

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        """Read the database's clock, record the contact in `downtime`, and fix the moment to judge by.

        From now on `downtime` also records when the database stands still.
        Raises DatabaseUnavailable when the database takes no changes now, TableReplaced when a name leads to another
        table that is not known to be a copy of the one before, KeyNotUnique when running jobs have one key.
        """
        downtime.quiet = self.options.quiet
        if not downtime.has_contact and downtime.before_first_contact is not None:
            downtime.before_first_contact(self, connection, downtime)
        started = time.monotonic()
        with transaction(connection, self.timeouts):
            downtime.record_contact(read_server_clock(connection))
            read = self._clauses(self._liveness_tables)
            hidden = dialect_of(connection).hidden_rows(connection, read, _NOTHING_JUDGED)
            changes = read_table_changes(connection, self.tables)
            self._read_local_columns(connection)
            is_unique = key_is_unique(connection, self.tables)
        self._downtime = downtime
        self._record_stall_if_slow(connection, time.monotonic() - started)
        self.diverted = changes.diverted
        if changes.replaced:
            self._follow(connection, changes)
        if changes.replaced or not is_unique:
            self.require_unique_key(connection)
        if self._follows:
            self._follows = False
            downtime.record_replacement("a table was put in the place of another one, perhaps before all of its rows")
        context = EvaluationContext.of(downtime, self.thresholds)
        return replace(
            context,
            row_security_reason=hidden,
            reapers_moments=self._reapers_moments(),
            future_signs=self._known_future_signs(context),
            first_seen=self._known_first_seen(context),
            lost_workers=self._known_lost_workers(context),
            unknown_moments=self._unknown_moments(),
        )

    def _read_local_columns(self, connection: Connection) -> None:
        """Which columns the server fills in another zone than UTC: now and then, since that hardly changes."""
        columns = self.statements.rule_parameters.columns_without_zone
        if time.monotonic() - self._zone_read_at < _ZONE_SECONDS:
            return
        found = local_columns(connection, self.tables, columns)
        self._local_columns = {column: local.describe(column) for column, local in found.items() if local.certain}
        self._zone_read_at = time.monotonic()

    def _offsets(self, store: SeenStates) -> Mapping[str, str]:
        """What looks have shown of columns, by their names."""
        return {name: seen.state for name, seen in store.known(self._place[0], self.name).items()}

    def _unknown_moments(self, offsets: Mapping[str, str] | None = None) -> Mapping[TableColumn, str]:
        """Why the moments of columns are unknown: by the catalog, and by what looks have shown."""
        columns = self.statements.rule_parameters.columns_without_zone
        certain = {**self._local_columns, **self._other_units}
        if not columns or (store := self.options.local_columns) is None:
            return certain
        known = self._offsets(store) if offsets is None else offsets
        shown = {column: known[".".join(column)] for column in columns if ".".join(column) in known}
        reasons = {column: why_unknown(column, state) for column, state in shown.items()}
        return certain | {column: why for column, why in reasons.items() if why is not None}

    def look_for_other_units(
        self, connection: Connection, context: EvaluationContext, *, at_most: float = math.inf
    ) -> EvaluationContext:
        """The context that says in which columns running jobs have numbers that can only be in another unit.

        A statement may take `at_most` seconds. Raises DBAPIError.
        """
        if not columns_of_numbers(self.profile):
            return context
        with self.transaction(connection, read_only=True, at_most=at_most):
            self._other_units = columns_in_other_unit(self.statements, connection, context)
        return replace(context, unknown_moments=self._unknown_moments())

    def look_for_local_times(
        self,
        connection: Connection,
        context: EvaluationContext,
        before: LocalLook | None,
        *,
        keep: bool = True,
        at_most: float = math.inf,
    ) -> tuple[EvaluationContext, LocalLook | None]:
        """The context in which moments are unknown that are proven to be in local time, or may be until the next look;
        and the look to compare with. `keep`: what is found is remembered. A statement may take `at_most` seconds.

        Raises DBAPIError.
        """
        if not self.statements.rule_parameters.columns_without_zone:
            return context, None
        if before is not None and context.now.timestamp() - before.at < APART_SECONDS:
            return context, before
        with self.transaction(connection, read_only=True, at_most=at_most):
            now = look(self.statements, connection, context, before)
        if (store := self.options.local_columns) is None:
            return context, now
        offsets = known_after(before, now, self._offsets(store))
        if keep:
            store.observe(self._place[0], self.name, offsets, now.at, complete=True)
        return replace(context, unknown_moments=self._unknown_moments(offsets)), now

    def require_unique_key(self, connection: Connection) -> None:
        """Raises KeyNotUnique when several running jobs have one key, DBAPIError when that cannot be found out."""
        with self.transaction(connection, read_only=True):
            if not key_is_unique(connection, self.tables):
                require_unique_key(self.statements, connection, {}, shared_by_running_query)

    def _known_first_seen(self, context: EvaluationContext) -> Mapping[str, SeenSign]:
        if (store := self.options.first_seen) is None:
            return {}
        now, known = context.now.timestamp(), store.known(database_address(self.engine), self.name)
        return {name: seen for name, seen in known.items() if seen.first_seen <= now}

    def see_jobs_without_start(self, connection: Connection, context: EvaluationContext) -> EvaluationContext:
        """The context in which jobs without a start count from when they were first seen, which is remembered.

        Raises DBAPIError.
        """
        if (store := self.options.first_seen) is None:
            return context
        with self.transaction(connection, read_only=True):
            states, complete = jobs_without_start(self.statements, connection, context)
        now, database = context.now.timestamp(), database_address(self.engine)
        seen = store.observe(database, self.name, states, now, complete=complete)
        return replace(context, first_seen=seen)

    def _known_lost_workers(self, context: EvaluationContext) -> LostWorkers:
        """The workers that are gone as far as sweeps have seen it: the rule asks whether each is still as it was."""
        if (store := self.options.worker_states) is None or self.options.gone_after_seconds is None:
            return LostWorkers()
        seen = store.known(database_address(self.engine), self.name)
        return lost_among(seen, context.now, context.spans, self.options.gone_after_seconds)

    def look_at_workers(self, connection: Connection, context: EvaluationContext) -> EvaluationContext:
        """The context with the workers that are gone, where the source looks at them; what is seen is remembered.

        Raises DBAPIError.
        """
        gone_after = self.options.gone_after_seconds
        if (store := self.options.worker_states) is None or gone_after is None:
            return context
        with self.transaction(connection, read_only=True):
            look = worker_look(self.statements, connection, context)
        now, states = context.now.timestamp(), {**look.idle, **look.holding}
        seen = store.observe(database_address(self.engine), self.name, states, now, complete=True)
        return replace(context, lost_workers=lost_among(seen, context.now, context.spans, gone_after, look.holding))

    def _known_future_signs(self, context: EvaluationContext) -> Mapping[str, SeenSign]:
        """What was seen by the database's clock before now: that clock may have been put back since."""
        if (store := self.options.future_signs) is None or not witnesses_ahead(self.profile):
            return {}
        known, now = store.known(*self._place), context.now.timestamp()
        return {name: seen for name, seen in known.items() if seen.first_seen <= now}

    @property
    def _place(self) -> tuple[str, str]:
        """The database and the table, as memory keeps facts about rows."""
        return database_address(self.engine), bare_table(self.profile.jobs.table)

    def look_for_future_signs(
        self, connection: Connection, context: EvaluationContext
    ) -> tuple[EvaluationContext, FutureSigns]:
        """The context in which signs of life in the future count from when they were first seen, and the jobs with any.

        Looks at the jobs that a sweep ends, and remembers those that are new. Raises DBAPIError.
        """
        with self.transaction(connection, read_only=True):
            states, found = future_states(self.statements, connection, context)
        if (lost := self.start_lost) in self.swept_views and lost is not None:
            more, also_found = self._future_states_of_start_lost(connection, context, lost)
            states, found = {**states, **more}, add_found(found, also_found)
        if (store := self.options.future_signs) is None:
            return context, found
        seen = store.observe(*self._place, states, context.now.timestamp())
        return replace(context, future_signs=seen), found

    def _future_states_of_start_lost(
        self, connection: Connection, context: EvaluationContext, lost: Source
    ) -> tuple[Mapping[str, str], FutureSigns]:
        """None when they cannot be found, such as for want of an index: a sweep's survey says so."""
        try:
            with self.transaction(connection, read_only=True):
                return future_states(lost.statements, connection, context)
        except DBAPIError as error:
            if classify(error) is ErrorKind.UNAVAILABLE:
                raise
            return {}, FutureSigns(0, complete=False)

    def _follow(self, connection: Connection, changes: TableChanges) -> None:
        """Take the tables that are in the place of others now for those. Raises TableReplaced."""
        with self.transaction(connection, read_only=True, at_most=_SPELLING_SECONDS):
            reasons = list(reasons_not_to_follow(connection, self.tables, changes.replaced))
        if reasons:
            raise TableReplaced(*(f"{reason}; reload the reaper once the tables are right" for reason in reasons))
        self.decision.renew_if(self.spelling)
        self.connected(connection)

    def _reapers_moments(self) -> dict[int, Sequence[str]]:
        """By the number of the witness: what the reaper wrote to its rows, which is no sign of life."""
        if (reaped_rows := self.options.reaped_rows) is None:
            return {}
        tables, database = silent_tables(self.profile), database_address(self.engine)
        return {n: reaped_rows.moments(database, table) for n, table in tables.items()}

    def ask_probe(self, context: EvaluationContext) -> EvaluationContext:
        """The context with the report of the probe, where the source has one. Asks it once.

        Call it before the rule is used. Raises RowsHidden when signs of life may be hidden from the role: a job whose
        signs cannot be seen is not silent.
        """
        if context.row_security_reason is not None:
            raise RowsHidden(context.row_security_reason)
        probe = self.options.probe
        if probe is None:
            return context
        report = probe.ask_for(self._has_any_task) if isinstance(probe, UnprovenBroker) else probe.ask()
        return replace(context, liveness=report)

    def _has_any_task(self, ids: Collection[str]) -> bool:
        """Any of these Celery tasks has a job here, whatever its status."""
        with self.connect() as connection, self.transaction(connection, read_only=True):
            return bool(self.lookup.existing_tasks(connection, ids))

    def require_visible_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> None:
        """Raises RowsHidden, with this consequence in its message, when rows of these tables may be hidden."""
        clauses = self._clauses(tables)
        if (hidden := dialect_of(connection).hidden_rows(connection, clauses, consequence)) is not None:
            raise RowsHidden(hidden)

    def _clauses(self, names: Iterable[str]) -> list[TableClause]:
        tables = self.tables
        return [tables.table(name) for name in names]

    # --- ending --------------------------------------------------------------------------------------------------

    def claim(
        self,
        context: EvaluationContext,
        audit_info: AuditInfo,
        action: str | None = None,
        restart: Restart | None = None,
    ) -> Claim:
        """Ends jobs as of this moment: for JOB_TIMEOUT those that are stale by their own silence, for WORKER_LOST those
        whose worker is gone, for INTERRUPTED those that `restart` has interrupted, and for MANUAL_TIMEOUT, an
        operator's own decision, all.

        Raises SourceObserved: whatever ends jobs makes a claim first.
        """
        self.require_not_observed()
        values, predicate = self.statements.values(context), _predicate(audit_info.reason, restart)
        if restart is not None:
            values |= restart.values
        chosen_action = action or self.options.action
        return Claim(
            self.statements,
            values,
            self.naming(audit_info, chosen_action),
            predicate=predicate,
            action=chosen_action,
            holds=lambda: self.holds(context),
        )

    def naming(self, audit_info: AuditInfo, action: str) -> AuditInfo:
        """What audit events say of jobs that get this action: its name, too, but for the usual one.

        A choice between two actions names that of each job itself.
        """
        if audit_info.action is None and action in self.profile.actions and action != "fail":
            return replace(audit_info, action=action)
        return audit_info

    def holds(self, context: EvaluationContext) -> Mapping[Key, JobHold]:
        """The jobs that operators hold, as of this moment. Raises StateUnavailable: then it is not known."""
        return self.holds_at(context.now)

    def known_holds(self, context: EvaluationContext) -> Mapping[Key, JobHold]:
        """The same for what is only shown: none where they cannot be read."""
        try:
            return self.holds(context)
        except StateUnavailable:
            return {}

    def holds_now(self) -> Mapping[Key, JobHold]:
        """The same now; none before `begin_evaluation`. Raises StateUnavailable."""
        return {} if self._downtime is None else self.holds_at(self._downtime.estimated_now)

    def holds_at(self, now: datetime) -> Mapping[Key, JobHold]:
        """Those in force at a moment of the database's clock. Raises StateUnavailable."""
        if self.options.holds is None:
            return {}
        return {key: hold for key, hold in self.options.holds.of(self.name).items() if hold.until > now}

    def quiet_until(self) -> datetime | None:
        """The end of the quiet time that it is now, by the database's clock; None when it is not quiet.

        After `begin_evaluation`.
        """
        if self._downtime is None or not self.options.quiet.times:
            return None
        return self.options.quiet.until(self._downtime.estimated_now)

    def require_not_observed(self) -> None:
        """Raises SourceObserved, which says where that is set, and what passes."""
        if (why := self.options.why_observed) is not None:
            raise SourceObserved(
                f"source {self.name} is {why}. Set observe = false to have its jobs ended; --while-observed passes it "
                'once (over HTTP "while_observed": true)'
            )

    def require_not_quiet(self) -> None:
        """Raises QuietTime, which says until when, and what passes. After `begin_evaluation`."""
        if (until := self.quiet_until()) is not None:
            raise QuietTime(self.options.quiet.refusal(until))

    def fallback_claim(
        self, context: EvaluationContext, audit_info: AuditInfo, restart: Restart | None = None
    ) -> Claim | None:
        """How to end a job whose transition a unique key does not allow; None where it is to be left alone."""
        return self.claim(context, audit_info, "fail", restart) if self.has_fallback else None

    def remember_reaped(self, jobs: Iterable[ReapedJob]) -> None:
        """Keep what their transitions wrote, where a source wants to know it, and the evidence of jobs of which nothing
        stays in the database. Call it after the commit.

        A process that ends in between has written a moment that is not known to be its own: it counts as a sign.
        """
        if self.options.reaped_rows is None:
            return
        jobs = list(jobs)
        reaps = [KeptReap(job.key, job.evidence, job.reaped_at) for job in jobs if job.evidence]
        self.options.reaped_rows.remember_jobs(*self._place, reaps)
        if not self.options.remembers:
            return
        states = ((job.key, job.state_after) for job in jobs if job.state_after is not None)
        moments = [moment_text(column, key, value) for key, after in states for column, value in after.moments.items()]
        self.options.reaped_rows.remember(*self._place, moments)

    def requeues_used_up(self) -> frozenset[str]:
        """The names of the jobs that sweeps fail instead of starting them again, as they have done that too often."""
        return _requeues_used_up(self.options.requeue_limit, self._place)

    def count_requeues(self, context: EvaluationContext, requeued: Iterable[Key], failed: Collection[Key]) -> None:
        """Jobs that a sweep has started again, and those that it has failed for that. Call it after the commit.

        A process that ends in between has counted nothing: those jobs are started once more.
        """
        if (limit := self.options.requeue_limit) is not None:
            limit.count(*self._place, requeued, failed, context.now.timestamp())

    def kept_reaps(self, key: Key) -> Sequence[AuditEvent]:
        """What is kept of earlier reaps of this job whose evidence is not in the database, newest first."""
        if self.options.reaped_rows is None:
            return []
        kept = self.options.reaped_rows.reaps_of(*self._place, key)
        return [AuditEvent(dict(reap.evidence), reap.reaped_at) for reap in kept]

    def rows_written(self, connection: Connection) -> int:
        """How many rows sessions have written to the tables with jobs and signs of life. Raises DBAPIError."""
        with self.transaction(connection, read_only=True, at_most=_SPELLING_SECONDS):
            return rows_written(connection, self.tables)

    def what_slows_survey(self, connection: Connection) -> Sequence[str]:
        """What to mend where a survey is too slow, one sentence each. Raises DBAPIError."""
        with self.transaction(connection, read_only=True, at_most=_SPELLING_SECONDS):
            return what_slows_survey(connection, self.tables)

    def lock_holder(self, connection: Connection, key: Key) -> LockHolder | None:
        """The transaction that holds the job's row, or a row that belongs to it; None when none does, or when it cannot
        be found out. In a transaction of its own.
        """
        return self.lock_holders(connection, [key]).get(key)

    def lock_holders(
        self, connection: Connection, keys: Sequence[Key], *, at_most: float = math.inf
    ) -> Mapping[Key, LockHolder]:
        """The same for several jobs; those without a holder are missing. A statement may take `at_most` seconds."""
        if not keys:
            return {}
        with self.transaction(connection, at_most=at_most):
            return dialect_of(connection).lock_holders(connection, self.tables, keys)

    def lease(self, ttl_seconds: float) -> Lease:
        return Lease(self.engine, lambda: self.tables, ttl_seconds)


def _requeues_used_up(limit: RequeueLimit | None, place: tuple[str, str]) -> frozenset[str]:
    return frozenset() if limit is None else limit.used_up(*place)


def _predicate(reason: Reason, restart: Restart | None) -> Predicate:
    """Which jobs a claim for this reason ends."""
    match reason:
        case Reason.JOB_TIMEOUT:
            return is_stale
        case Reason.WORKER_LOST:
            return is_worker_lost
        case Reason.INTERRUPTED:
            return interrupted_predicate(restart)
        case Reason.MANUAL_TIMEOUT:
            return is_any
