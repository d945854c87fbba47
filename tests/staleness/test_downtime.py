"""Downtime is not silence: the cutoff steps over it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reaper.model import DISTANT_PAST, ServerClock
from reaper.staleness.downtime import DowntimeTracker, Interruption
from reaper.sweep.downtime_notice import downtime_notice
from tests.staleness.simulated_database import STALL, SimulatedDatabase, at

# --- one thing at a time -----------------------------------------------------------------------------------------


def test_clock_is_missing_before_the_first_contact() -> None:
    with pytest.raises(ValueError, match="no contact with the database yet"):
        DowntimeTracker(60).cutoff(STALL)


def test_copy_has_the_same_downtime_and_records_by_itself() -> None:
    database = SimulatedDatabase(60)
    database.contact()
    database.wait(100)
    database.fail()
    database.wait(100)
    database.contact()
    copy = database.downtime.copy()
    assert (copy.now, copy.cutoff(STALL)) == (database.downtime.now, database.downtime.cutoff(STALL))
    known = database.downtime.cutoff(STALL)
    copy.record_failure()
    database.wait(50)
    copy.record_contact(ServerClock(now=at(database.clock), server_started=at(database.started)))
    assert copy.now > database.downtime.now and database.downtime.cutoff(STALL) == known
    assert copy.excluded_seconds(STALL) > database.downtime.excluded_seconds(STALL)


def test_copy_made_after_a_failure_takes_the_time_until_the_next_contact_for_downtime() -> None:
    database = SimulatedDatabase(60)
    database.contact()
    database.wait(100)
    database.fail()
    copy = database.downtime.copy()
    database.wait(100)
    copy.record_contact(ServerClock(now=at(database.clock), server_started=at(database.started)))
    database.contact()
    assert copy.excluded_seconds(STALL) == database.downtime.excluded_seconds(STALL) > 0


def test_new_grace_changes_no_downtime_of_before() -> None:
    database = SimulatedDatabase(60)
    database.contact()
    database.wait(600)
    database.fail()
    database.contact()
    database.wait(1000)
    database.contact()
    before = database.cutoff()
    database.downtime.set_grace(0)
    assert database.cutoff() == before


def test_silence_counts_in_full_while_the_server_was_up() -> None:
    database = SimulatedDatabase()
    for _ in range(5):
        database.contact()
        assert database.cutoff() == database.clock - STALL
        assert database.excluded_seconds() == 0
        database.wait(60)


def test_outage_that_was_seen_is_stepped_over_with_its_grace() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    for _ in range(3):
        database.wait(600)
        database.fail()
    database.wait(200)
    database.contact()  # at 2000, away since 0
    assert database.cutoff() == -STALL
    database.wait(60)
    database.contact()
    assert database.cutoff() == -STALL
    database.wait(600)
    database.contact()
    assert database.cutoff() == -STALL + 600
    assert database.excluded_seconds() == 2060
    database.wait(1200)
    database.contact()
    assert database.cutoff() == database.clock - STALL
    assert database.excluded_seconds() == 0


def test_failure_between_two_contacts_makes_all_the_time_between_them_downtime() -> None:
    database = SimulatedDatabase(grace=0)
    database.contact()
    database.wait(59)
    database.fail()
    database.wait(1)
    database.contact()
    assert database.cutoff() == -STALL


def test_silence_counts_from_the_start_of_a_server_that_was_up_before_us() -> None:
    database = SimulatedDatabase(grace=60, started=-1000)
    database.contact()
    cutoff = database.downtime.cutoff(STALL)
    assert (cutoff.at, cutoff.not_before) == (DISTANT_PAST, at(-940))
    assert cutoff.earliest_possible == at(-STALL)
    assert database.excluded_seconds() == float("inf")
    database.wait(STALL - 940 - 1)
    database.contact()
    assert database.cutoff() is None
    database.wait(1)
    database.contact()
    assert database.cutoff() == -940
    assert database.downtime.cutoff(STALL + 1).at == DISTANT_PAST
    assert database.downtime.cutoff(STALL - 1).at == at(-939)


def test_silence_counts_from_the_return_of_a_database_that_was_away_before_us() -> None:
    database = SimulatedDatabase(grace=60, started=-86400)
    database.fail()
    database.wait(100)
    database.contact()
    assert database.downtime.cutoff(STALL).not_before == at(160)
    database.wait(60 + STALL)
    database.contact()
    assert database.cutoff() == 160


def test_restart_between_two_contacts_is_downtime_since_the_first_of_them() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(100)
    database.started = 30.0
    database.contact()
    assert database.cutoff() == -STALL + 10
    assert database.excluded_seconds() == 90


def test_server_that_started_before_the_last_contact_took_over_just_now() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(100)
    database.started = -500000
    database.contact()
    assert database.cutoff() == -STALL
    database.wait(100)
    database.contact()
    assert database.cutoff() == -STALL + 40


def test_grace_of_zero_trusts_restarts_and_not_outages() -> None:
    young = SimulatedDatabase(grace=0, started=-1)
    young.contact()
    assert young.cutoff() == -STALL
    young.wait(60)
    young.started = 30.0
    young.contact()
    assert young.cutoff() == 60 - STALL
    young.fail()
    young.wait(60)
    young.started = 110.0
    young.contact()
    assert young.cutoff() == 60 - STALL


def test_grace_of_zero_makes_only_the_wait_at_the_start_downtime() -> None:
    database = SimulatedDatabase(grace=0)
    database.wait(10)
    database.fail()
    database.wait(90)
    database.contact()
    assert database.cutoff() == -STALL


def test_clock_jump_ahead_is_downtime() -> None:
    database = SimulatedDatabase()
    database.contact()
    database.wait(60)
    database.clock += 7 * 3600
    database.contact()
    assert database.cutoff() == -STALL + 60
    database.wait(STALL)
    database.contact()
    assert database.cutoff() == database.clock - STALL


def test_small_differences_of_the_clocks_are_no_jump() -> None:
    database = SimulatedDatabase()
    for _ in range(10):
        database.contact()
        database.wait(60)
        database.clock += 4.9
    database.contact()
    assert database.excluded_seconds() == 0


def test_clock_that_is_set_back_makes_no_downtime() -> None:
    database = SimulatedDatabase()
    database.contact()
    database.wait(60)
    database.clock -= 3600
    database.contact()
    assert database.cutoff() == database.clock - STALL


def test_outage_across_which_the_clock_was_set_back_is_as_long_as_we_waited() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(100)
    database.fail()
    database.wait(200)
    database.clock -= 3600
    database.contact()
    back = database.clock
    assert database.cutoff() == back - 300 - STALL
    database.wait(60 + 600)
    database.contact()
    assert database.cutoff() == back - 300 - (STALL - 600)


def test_failover_across_which_the_clock_was_set_back_is_as_long_as_we_waited() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(300)
    database.clock -= 3600
    database.started = -500000
    database.contact()
    back = database.clock
    database.wait(60 + 600)
    database.contact()
    assert database.cutoff() == back - 300 - (STALL - 600)


def test_clock_that_is_corrected_leaves_no_downtime_in_the_future() -> None:
    database = SimulatedDatabase(grace=60)
    database.clock = 360000.0  # wrong by far, and away
    database.fail()
    database.contact()
    database.clock = 0.0
    database.wait(10)
    database.contact()
    assert database.downtime.cutoff(STALL).not_before == at(70)
    database.wait(60 + STALL)
    database.contact()
    assert database.cutoff() == 70


def test_stall_of_the_database_is_downtime() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(100)
    database.downtime.record_stall(80)  # from 20 on, and the grace to 160
    database.wait(100)
    database.contact()
    assert database.cutoff() == 200 - STALL - 140


def test_stall_before_the_first_contact_is_a_failure() -> None:
    database = SimulatedDatabase(grace=60)
    database.wait(100)
    database.downtime.record_stall(80)
    database.contact()
    assert database.downtime.cutoff(STALL).not_before == at(160)


def test_outages_that_touch_or_overlap_count_once() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    for _ in range(3):
        database.wait(10)
        database.fail()
        database.wait(20)
        database.contact()  # 30, 60, 90: the grace of one reaches into the next
    database.wait(60)
    database.contact()
    assert database.cutoff() == -STALL
    assert database.excluded_seconds() == 150


def test_outages_apart_are_stepped_over_one_by_one() -> None:
    database = SimulatedDatabase(grace=0)
    database.contact()
    for _ in range(4):
        database.wait(500)
        database.contact()
        database.fail()
        database.wait(1000)
        database.contact()
    # Heard: 500 before each of four outages of 1000.
    assert database.clock == 6000
    assert database.cutoff(100) == 4900
    assert database.cutoff(500) == 4500
    assert database.cutoff(1100) == 4500 - 1000 - 500 - 100 - 1000
    assert database.cutoff(2000) == 0
    assert database.cutoff(2001) == -1


def test_outages_in_any_number_are_not_silence() -> None:
    database = SimulatedDatabase(grace=1, started=-1)
    database.contact()
    for _ in range(3000):
        database.fail()
        database.wait(2)
        database.contact()
        database.wait(2)
        database.contact()
    # Each round of 4 seconds was audible for one: after its outage and its grace.
    assert database.cutoff(100) == database.clock - 397
    assert database.cutoff(900) == database.clock - 3597
    # What is too much to remember is taken for deaf as a whole.
    assert database.cutoff(3001) is None


def test_server_that_booted_with_its_clock_in_the_future_causes_no_downtime_until_then() -> None:
    database = SimulatedDatabase(60, started=10 * 365 * 86400)
    database.contact()
    assert database.cutoff() is None
    database.wait(60 + STALL)
    database.contact()
    assert database.cutoff() == 60


def test_clock_that_jumped_a_year_ahead_and_was_set_back_leaves_no_year_of_downtime() -> None:
    database = SimulatedDatabase(60)
    database.contact()
    database.wait(60)
    database.clock += 365 * 86400
    database.contact()
    database.wait(60)
    database.clock -= 365 * 86400
    database.contact()
    for _ in range(60):
        database.wait(60)
        database.contact()
    assert database.cutoff() == database.clock - STALL


def test_stall_of_the_database_is_not_silence() -> None:
    database = SimulatedDatabase(60)
    database.contact()
    database.wait(STALL)
    database.downtime.record_stall(STALL - 100)
    database.wait(1000)
    database.contact()
    assert database.excluded_seconds() == STALL - 100 + 60


# --- from one process to the next -----------------------------------------------------------------------------------


def test_restart_while_no_process_ran_costs_what_it_lasted() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(600)
    database.started = 500.0
    assert database.next_process()
    # 40 s count since the end of the grace, and the rest of a window before the last contact at 0.
    assert database.cutoff() == -(STALL - 40)
    assert database.excluded_seconds() == 560


def test_next_process_starts_afresh_without_what_the_last_one_noted() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(600)
    database.started = 500.0
    database.downtime = DowntimeTracker(60, lambda: database.tick)
    database.contact()
    assert database.cutoff() is None


def test_next_process_knows_the_outages_that_the_last_one_saw() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(600)
    database.fail()
    database.contact()
    database.wait(300)
    database.contact()
    before = database.cutoff()
    assert before == -(STALL - 240)
    assert database.next_process()
    assert database.cutoff() == before


def test_database_that_the_next_process_could_not_reach_at_first_was_away_since_the_last_contact() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    history = database.downtime.history()
    assert history is not None
    database.downtime = DowntimeTracker(60, lambda: database.tick)
    database.fail()
    database.wait(600)
    now = ServerClock(now=at(database.clock), server_started=at(database.started))
    assert database.downtime.resume(history, now)
    assert database.cutoff() == -STALL
    assert database.downtime.interruption == Interruption(
        at(0), at(660), "it could not be reached when the reaper started"
    )


def test_floor_of_the_last_process_stays_one_for_the_next() -> None:
    database = SimulatedDatabase(grace=60, started=-100)
    database.contact()
    database.wait(300)
    database.contact()
    assert database.next_process()
    cutoff = database.downtime.cutoff(STALL)
    assert (cutoff.at, cutoff.not_before) == (DISTANT_PAST, at(-40))
    assert database.downtime.interruption is not None and database.downtime.interruption.start is None


@pytest.mark.parametrize(
    ("clock", "started"),
    [pytest.param(-1.0, -86400.0, id="its clock is behind"), pytest.param(100.0, -500.0, id="it ran beside the other")],
)
def test_contact_that_cannot_be_with_the_same_server_is_not_resumed_from(clock: float, started: float) -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.clock, database.started = clock, started
    assert not database.next_process()
    database.contact()
    assert database.downtime.cutoff(100_000).not_before == at(started + 60)


def test_nothing_is_resumed_without_a_grace_or_after_a_contact() -> None:
    trusting = SimulatedDatabase(grace=0)
    trusting.contact()
    trusting.wait(100)
    trusting.started = 50.0
    assert not trusting.next_process()
    trusting.contact()
    assert trusting.cutoff() == 100 - STALL

    database = SimulatedDatabase(grace=60)
    database.contact()
    history = database.downtime.history()
    assert history is not None
    assert not database.downtime.resume(history, history.last)


def test_history_is_missing_while_the_database_is_away() -> None:
    database = SimulatedDatabase()
    assert database.downtime.history() is None
    database.contact()
    database.fail()
    assert database.downtime.history() is None
    database.contact()
    assert database.downtime.history() is not None


def test_history_is_bounded_and_loses_no_downtime() -> None:
    database = SimulatedDatabase(grace=1)
    for _ in range(150):
        database.contact()
        database.wait(10)
        database.fail()
        database.contact()
        database.wait(10)
    database.contact()
    history = database.downtime.history()
    assert history is not None and len(history.downtime) == 100
    before = {stall: database.cutoff(stall) for stall in (100, 500, 900)}
    assert None not in before.values() and len(set(before.values())) == 3
    assert database.next_process()
    assert {stall: database.cutoff(stall) for stall in before} == before
    # What was merged is taken for downtime altogether.
    assert database.cutoff(1000) == database.cutoff(1e6) is None


# --- until when nothing is ended -------------------------------------------------------------------------------------


def test_notice_says_when_the_first_silent_job_can_be_ended() -> None:
    database = SimulatedDatabase(grace=60, started=-100)
    database.contact()
    notice = downtime_notice(database.downtime, STALL)
    assert notice is not None
    promised = at(-40 + STALL)
    assert (notice.away_from, notice.silence_counts_from) == (None, at(-40).isoformat())
    assert notice.nothing_before == promised.isoformat()
    # An outage later on puts it off.
    database.wait(100)
    database.fail()
    database.wait(30)
    database.contact()
    notice = downtime_notice(database.downtime, STALL)
    assert notice is not None and notice.away_from == at(0).isoformat()
    assert notice.nothing_before == (promised + timedelta(seconds=190)).isoformat()
    for seconds, waits in ((1819, True), (2, False)):
        database.wait(seconds)
        database.contact()
        notice = downtime_notice(database.downtime, STALL)
        assert (notice is not None and notice.nothing_before is not None) is waits
        assert (database.cutoff() is None) is waits


def test_notice_ends_when_the_whole_window_counts_again() -> None:
    database = SimulatedDatabase(grace=60)
    database.contact()
    database.wait(600)
    database.started = 500.0
    assert database.next_process()
    notice = downtime_notice(database.downtime, STALL)
    assert notice is not None and notice.nothing_before is None
    assert (notice.away_from, notice.silence_counts_from) == (at(0).isoformat(), at(560).isoformat())
    database.wait(STALL)
    database.contact()
    assert downtime_notice(database.downtime, STALL) is None
