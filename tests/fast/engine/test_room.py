"""Calls for which this process has no room: no attempt is counted, no run turns back, and all goes on by itself."""

import asyncio
from datetime import timedelta

import pytest

from amends.core.run.answers import Came, NoRoom
from amends.core.saga.outcomes import Compensated, Completed
from amends.core.words.retry import Policy, Retry
from amends.ports.transport import Outgoing
from tests.fast.engine.support import Pretend, assert_empty, opened, order_saga, seconds, until, virtually, yes

ONCE_ONLY = Policy(retry=Retry(attempts_max=1), compensation_retry=Retry(attempts_max=1))


class Short:
    """No room until a moment."""

    def __init__(self, until_seconds: float = 100.0) -> None:
        self.until = until_seconds
        self.fired = 0

    def __call__(self, call: Outgoing) -> Came:
        if seconds() >= self.until:
            return yes()
        self.fired += 1
        return NoRoom("Too many open files")


def test_calls_without_room_wait_and_count_nothing(caplog: pytest.LogCaptureFixture) -> None:
    order, short = order_saga(policy=ONCE_ONLY), Short()

    async def test() -> None:
        async with opened([order], shop=Pretend(short)) as runs:
            started = [await runs.start(order, "x", id=f"o{number}") for number in range(30)]
            assert {type(await each.outcome()) for each in started} == {Completed}
            assert runs.engine.participants()[0].down_since is None
            _, _, record = await runs.engine.read("o0")
            item = record.item("reserve", "")
            assert item is not None
            assert item.action is not None
            assert (item.action.attempts, item.action.sends) == (0, 1), "the one that was made"
            assert seconds() < short.until + 2
            await asyncio.sleep(3)
            assert_empty(runs)

    virtually(test)
    assert 16 * 50 < short.fired <= 30 * 101, "each call that has a slot, once a second"
    said = [each.getMessage() for each in caplog.records if "room" in each.getMessage() or "held" in each.getMessage()]
    assert 2 <= len(said) <= 6, "now and then, not for every call"
    assert said[-1].startswith("there is room for calls again")


def test_a_run_that_turns_back_takes_a_held_call_back_at_once() -> None:
    order, short = order_saga(), Short()
    shop = Pretend(short)

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            await until(lambda: short.fired > 1)
            await runs.cancel("o", reason="changed my mind")
            assert isinstance(await run.outcome(wait=timedelta(seconds=5)), Compensated)
            fired = short.fired
            await asyncio.sleep(30)
            assert short.fired == fired
            assert_empty(runs)

    virtually(test)


def test_a_run_that_turned_back_while_its_call_was_tried_takes_it_back() -> None:
    order = order_saga()
    tried = 0

    async def does(_: Outgoing) -> Came:
        nonlocal tried
        tried += 1
        await asyncio.sleep(2)
        return NoRoom("Too many open files")

    async def test() -> None:
        async with opened([order], shop=Pretend(does)) as runs:
            run = await runs.start(order, "x", id="o")
            await until(lambda: tried == 1)
            await runs.cancel("o", reason="changed my mind")
            assert isinstance(await run.outcome(wait=timedelta(seconds=5)), Compensated)
            assert_empty(runs)

    virtually(test)
    assert tried == 1, "nothing was sent, and nothing has to be undone"


def test_closing_leaves_held_calls_to_the_next_process() -> None:
    order, short = order_saga(), Short()

    async def test() -> None:
        async with opened([order], shop=Pretend(short)) as runs:
            await runs.start(order, "x", id="o")
            await until(lambda: short.fired == 1)
            began = seconds()
        assert seconds() - began < 1

    virtually(test)
    assert short.fired == 1
