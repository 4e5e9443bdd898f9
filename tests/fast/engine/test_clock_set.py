"""A clock that is set back prolongs no wait: waits are measured in time that passes."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from unittest import mock

import pytest
from typing_extensions import override

from amends.core.run.answers import Came
from amends.core.saga.outcomes import Completed
from amends.core.words.retry import MICROSECONDS
from amends.engine import log_clock
from amends.engine.log_clock import LogClock
from amends.logs.memory import MemoryLog, MemoryStore
from amends.ports.transport import Outgoing
from tests.fast.engine import support
from tests.fast.engine.support import UNREACHED, Clock, Pretend, opened, order_saga, seconds, virtually, yes

HOUR = 3_600 * MICROSECONDS


class SetBack(Clock):
    """A clock that is set at a moment."""

    by = 0

    @override
    def now(self) -> int:
        return super().now() + self.by


def fails_until(moment: float) -> Pretend:
    def does(_: Outgoing) -> Came:
        return UNREACHED if seconds() < moment else yes()

    return Pretend(does)


@pytest.mark.parametrize("by", [-HOUR, HOUR], ids=["back", "forward"])
def test_a_clock_that_is_set_changes_no_wait(by: int) -> None:
    order, clock, shop = order_saga(), SetBack(), fails_until(5)

    async def test() -> None:
        with mock.patch.object(support, "Clock", return_value=clock):
            async with opened([order], shop=shop) as runs:
                run = await runs.start(order, "x", id="o", deadline=timedelta(minutes=10))
                await asyncio.sleep(1.5)
                clock.by = by
                assert isinstance(await run.outcome(wait=timedelta(minutes=2)), Completed)

    virtually(test)
    times = shop.times("o:reserve:action")
    assert len(times) > 3, "it was tried before and after"
    assert max(after - before for before, after in pairwise(times)) < 5


def test_a_run_that_the_next_process_finds_in_its_future_waits_as_long_as_it_was_to() -> None:
    """The process ended, and the machine's clock was set back by an hour before the next one began."""
    order, clock, store, shop = order_saga(), SetBack(), MemoryStore(), fails_until(60)

    async def test() -> None:
        with mock.patch.object(support, "Clock", return_value=clock):
            async with opened([order], MemoryLog(store), shop=shop) as runs:
                await runs.start(order, "x", id="o")
                await asyncio.sleep(10)
            before = seconds()
            clock.by = -HOUR
            kept = store.runs["o"]
            kept.row = replace(kept.row, due_at=clock.now())  # as a log does that finds it in the future at its opening
            async with opened([order], MemoryLog(store), shop=shop) as runs:
                run = await runs.start(order, "x", id="o")
                assert isinstance(await run.outcome(wait=timedelta(minutes=5)), Completed)
            assert seconds() - before < 130

    virtually(test)
    assert len(shop.times("o:reserve:action")) < 12, "and no wait got shorter"


def test_the_logs_time_may_be_set_back_and_drift() -> None:
    passed = 0.0
    clock = LogClock(Clock(), lambda: passed)
    clock.set(HOUR, passed)
    last = clock.now()
    for number in range(1, 50):
        passed = 10.0 * number
        log = HOUR + round(passed * MICROSECONDS * 0.999)  # this machine's clock is fast
        clock.set(log - (HOUR // 2 if number >= 20 else 0), passed)
        assert clock.now() > last
        last = clock.now()
        assert abs(last - log) < 100_000, "the step is kept out, and drift is followed"
    passed += 10
    clock.set(HOUR + round(passed * MICROSECONDS * 0.999), passed)  # set right again
    assert 0 < clock.now() - last < 11 * MICROSECONDS
    passed += 10
    clock.set(2 * HOUR, passed)
    assert clock.now() == 2 * HOUR, "a step forward is followed"
    assert log_clock.STEP == 5 * MICROSECONDS
