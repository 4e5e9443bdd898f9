"""What leaves, leaves after it is durable; and many appends are one commit."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Completed
from amends.core.words.errors import RunExists
from amends.ports.log import Append, Start
from tests.fast.engine.support import (
    Once,
    Plain,
    Pretend,
    Shop,
    SlowLog,
    assert_empty,
    opened,
    order_saga,
    until,
    virtually,
    wide_saga,
)


def test_nothing_is_sent_before_the_append_that_owes_it_is_durable() -> None:
    journal: list[str] = []
    order = order_saga()

    async def test() -> None:
        async with opened([order], SlowLog(journal=journal), shop=Pretend(journal=journal)) as runs:
            await (await runs.start(order, "x", id="o")).outcome()

    virtually(test)
    assert journal == [
        "durable o RunStarted",
        "durable o ActionRequested",
        "send o:reserve:action",
        "durable o ActionSucceeded",
        "durable o ActionRequested",
        "send o:pay:action",
        "durable o ActionSucceeded",
        "durable o ActionRequested",
        "send o:ship:action",
        "durable o ActionSucceeded",
        "durable o RunEnded",
    ]


def test_appends_that_wait_for_a_commit_share_the_next_one() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            started = await asyncio.gather(*(runs.start(order, "x", id=f"o{i}") for i in range(200)))
            for run in started:
                assert isinstance(await run.outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    assert sum(map(len, log.batches)) == 800
    assert len(log.batches) < 20


def test_a_run_stands_in_a_batch_once() -> None:
    wide, log = wide_saga(names=[f"s{i}" for i in range(20)]), SlowLog()

    async def test() -> None:
        async with opened([wide], log, shop=Pretend()) as runs:
            started = await asyncio.gather(*(runs.start(wide, "x", id=f"w{i}") for i in range(20)))
            outcomes = [await run.outcome() for run in started]
            assert all(isinstance(each, Completed) for each in outcomes)

    virtually(test)
    for batch in log.batches:
        assert max(Counter(entry.run for entry in batch).values()) == 1


def test_what_came_in_while_an_append_was_under_way_is_decided_together() -> None:
    wide, log = wide_saga(names=[f"s{i}" for i in range(10)]), SlowLog()

    async def test() -> None:
        async with opened([wide], log, shop=Pretend()) as runs:
            assert isinstance(await (await runs.start(wide, "x", id="w")).outcome(), Completed)

    virtually(test)
    appends = [entry for batch in log.batches for entry in batch if isinstance(entry, Append)]
    assert len(appends) <= 4  # the first answer, the other nine, the pivot's


@pytest.mark.parametrize(("act", "guard"), [(Shop.act, "barrier"), (Plain.act, "idempotent"), (Once.act, "once")])
def test_an_answer_that_comes_while_an_append_is_under_way_is_not_asked_for_again(
    act: Callable[[str], Call[str]], guard: str
) -> None:
    wide, shop = wide_saga(act), Pretend()

    async def test() -> None:
        async with opened([wide], SlowLog(), shop=shop, plain=shop, once=shop) as runs:
            assert isinstance(await (await runs.start(wide, "x", id="w")).outcome(), Completed)

    virtually(test)
    assert set(shop.counts().values()) == {1}, guard


def test_the_same_start_twice_at_once_is_one_run() -> None:
    order, log, shop = order_saga(), SlowLog(), Pretend()

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            first, again = await asyncio.gather(runs.start(order, "x", id="o"), runs.start(order, "x", id="o"))
            assert (first.is_new, again.is_new) == (True, False)
            assert (
                await first.outcome()
                == await again.outcome()
                == Completed("o", by_hand=False, steps=("reserve", "pay", "ship"))
            )
            with pytest.raises(RunExists, match="another input"):
                await runs.start(order, "y", id="o")
            assert_empty(runs)

    virtually(test)
    assert set(shop.counts().values()) == {1}


def test_a_start_whose_caller_gave_up_is_driven_all_the_same() -> None:
    order, log, shop = order_saga(), SlowLog(append_seconds=1.0), Pretend()

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await runs.start(order, "x", id="o")
            assert "o" not in log.store.runs
            await until(lambda: "o" in log.store.runs)
            assert isinstance(await runs.get("o").outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    assert [type(entry) for batch in log.batches for entry in batch][:1] == [Start]
