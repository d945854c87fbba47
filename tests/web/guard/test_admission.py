"""The admission limit: order, turns, shared answers and the share of time, without a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest
from starlette.types import Message

from reaper.web.guard import admission
from reaper.web.guard.admission import AdmissionLimit, AdmissionTimeout, ClientDisconnected


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


class PendingAnswer:
    """An answer that takes until it is let go."""

    def __init__(self) -> None:
        self.began, self.let_go = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> list[Message]:
        self.began.set()
        await self.let_go.wait()
        return [{"type": "answer"}]


async def nothing() -> list[Message]:
    return []


def test_admission_keeps_the_order_of_requests() -> None:
    async def scenario() -> None:
        limit, order = AdmissionLimit(1, 0.001, at_once=1), list[int]()

        async def client(number: int) -> None:
            async def work() -> list[Message]:
                order.append(number)
                return []

            await limit.run(work)

        await asyncio.gather(*(client(number) for number in range(50)))
        assert order == list(range(50))

    run(scenario)


def test_slow_requests_of_one_group_leave_room_for_other_groups() -> None:
    async def scenario() -> None:
        limit, slow = AdmissionLimit(1, 0.0001, at_once=4, at_once_of_group=2), [PendingAnswer() for _ in range(9)]
        tasks = [asyncio.create_task(limit.run(work, group="slow")) for work in slow[:5]]
        tasks += [asyncio.create_task(limit.run_shared(n, slow[n], "slow")) for n in range(5, 9)]
        await asyncio.sleep(0.05)
        assert [work.began.is_set() for work in slow] == [True, True, *[False] * 7]
        for name in range(100):
            assert await asyncio.wait_for(limit.run(nothing, group=name), 1) == []
        for work in slow:
            work.let_go.set()
        await asyncio.gather(*tasks)
        assert await limit.run(nothing, group="slow") == []

    run(scenario)


def test_request_that_has_waited_in_its_group_for_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PATIENCE_SECONDS", 0.05)

    async def scenario() -> None:
        limit, slow = AdmissionLimit(1, 0.0001, at_once=4, at_once_of_group=1), PendingAnswer()
        working = asyncio.create_task(limit.run(slow, group="slow"))
        await slow.began.wait()
        with pytest.raises(AdmissionTimeout):
            await limit.run(nothing, group="slow")
        slow.let_go.set()
        await working
        assert await limit.run(nothing, group="slow") == []

    run(scenario)


def test_admission_works_on_no_more_at_once_than_it_may() -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=3), [PendingAnswer() for _ in range(5)]
        tasks = [asyncio.create_task(limit.run(work)) for work in works]
        await asyncio.sleep(0.05)
        assert [work.began.is_set() for work in works] == [True, True, True, False, False]
        works[1].let_go.set()
        await works[3].began.wait()
        await asyncio.sleep(0.05)
        assert not works[4].began.is_set()
        for work in works:
            work.let_go.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_admission_gives_the_turn_of_a_client_that_has_gone_to_the_next() -> None:
    async def scenario() -> None:
        limit, first, gone = AdmissionLimit(1, 0.0001, at_once=1), PendingAnswer(), False
        working = asyncio.create_task(limit.run(first))
        leaving = asyncio.create_task(limit.run(nothing, lambda: gone))
        cancelled = asyncio.create_task(limit.run(nothing))
        last = asyncio.create_task(limit.run(nothing))
        await first.began.wait()
        gone = True
        cancelled.cancel()
        first.let_go.set()
        await working
        await last
        with pytest.raises(ClientDisconnected):
            await leaving

    run(scenario)


def test_admission_frees_the_turn_of_a_request_that_is_cancelled_as_it_is_admitted() -> None:
    async def scenario() -> None:
        limit, first = AdmissionLimit(1, 0.0001, at_once=1), PendingAnswer()
        working = asyncio.create_task(limit.run(first))
        admitted = asyncio.create_task(limit.run(nothing))
        await first.began.wait()
        first.let_go.set()
        await asyncio.sleep(0)
        admitted.cancel()
        await working
        with pytest.raises(asyncio.CancelledError):
            await admitted
        assert await asyncio.wait_for(limit.run(nothing), 1) == []

    run(scenario)


def test_admission_raises_when_the_turn_does_not_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PATIENCE_SECONDS", 0.1)

    async def scenario() -> None:
        limit, first = AdmissionLimit(1, 0.0001, at_once=1), PendingAnswer()
        working = asyncio.create_task(limit.run(first))
        await first.began.wait()
        for late in (limit.run(nothing), limit.run_shared("question", nothing)):
            with pytest.raises(AdmissionTimeout):
                await late
        first.let_go.set()
        await working
        assert await limit.run_shared("question", nothing) == []

    run(scenario)


def test_answer_is_shared_by_the_clients_that_wait_even_when_one_of_them_leaves() -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=1), [PendingAnswer(), PendingAnswer()]
        asking = [asyncio.create_task(limit.run_shared("question", work)) for work in works]
        await works[0].began.wait()
        asking[0].cancel()
        works[0].let_go.set()
        assert await asking[1] == [{"type": "answer"}]
        assert not works[1].began.is_set()

    run(scenario)


def test_answer_is_not_shared_with_a_client_that_asks_after_it_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=3), [PendingAnswer(), PendingAnswer(), PendingAnswer()]
        first = asyncio.create_task(limit.run_shared("question", works[0]))
        await works[0].began.wait()
        later = [asyncio.create_task(limit.run_shared("question", work)) for work in works[1:]]
        await asyncio.sleep(0.05)
        assert not works[1].began.is_set(), "it waits a moment for others"
        for work in works:
            work.let_go.set()
        await asyncio.gather(first, *later)
        assert [work.began.is_set() for work in works] == [True, True, False]

        monkeypatch.setattr(admission, "_SAME_QUESTION_SECONDS", 0.05)
        slow, next_one = PendingAnswer(), PendingAnswer()
        hanging = asyncio.create_task(limit.run_shared("question", slow))
        await slow.began.wait()
        other = asyncio.create_task(limit.run_shared("question", next_one))
        await next_one.began.wait()
        for work in (slow, next_one):
            work.let_go.set()
        await asyncio.gather(hanging, other)

    run(scenario)


def test_admission_gives_work_its_share_of_the_time_and_no_more() -> None:
    async def scenario() -> None:
        limit, began, worked = AdmissionLimit(0.25, 0, at_once=4, burst_seconds=0.05), time.monotonic(), 0.0

        async def work() -> list[Message]:
            nonlocal worked
            before = time.monotonic()
            await asyncio.sleep(0.02)
            worked += time.monotonic() - before
            return []

        while time.monotonic() - began < 2:
            await limit.run(work)
        assert 0.15 < worked / 2 < 0.35

    run(scenario)


def test_admission_debt_is_never_longer_than_half_a_burst() -> None:
    limit = AdmissionLimit(10, 0, at_once=1, burst_seconds=2)
    limit.charge(1000)
    assert 0 < limit.wait_seconds <= 0.1
