"""What an orchestrator holds is what is under way, and leaving it leaves nothing behind."""

import asyncio
from pathlib import Path

import pytest

from amends.core.run.answers import Came
from amends.core.saga.outcomes import Compensated, Completed
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError
from amends.core.words.keys import Phase
from amends.engine.lanes import Lane, QueuedCall
from amends.orchestrator import Orchestrator
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    Pretend,
    Script,
    SlowLog,
    assert_empty,
    no,
    opened,
    order_saga,
    seconds,
    until,
    virtually,
    yes,
)


def test_after_many_runs_nothing_is_held() -> None:
    order = order_saga()
    answers: list[Came] = [yes(), no(), LOST]

    def does(call: Outgoing) -> Came:
        if call.attempt > 1 or call.phase is not Phase.ACTION or call.step == "ship":
            return yes()
        return answers[sum(call.key.encode()) % 3]

    async def test() -> None:
        async with opened([order], SlowLog(), shop=Pretend(does), at_once=5, runs_max=50) as runs:
            started = await asyncio.gather(*(runs.start(order, "x", id=f"o{i}") for i in range(300)))
            outcomes = [await run.outcome() for run in started]
            assert {type(each) for each in outcomes} <= {Completed, Compensated}
            await until(lambda: not runs.engine.worker.runs, within=10)
            assert_empty(runs)
            tasks = {task.get_name() for task in asyncio.all_tasks()} - {"amends-writer", "amends-claims"}
            assert len(tasks) == 1, "only this test"

    virtually(test)


async def test_after_many_runs_of_local_work_on_a_file_nothing_is_held(tmp_path: Path) -> None:
    saga = Saga("here", str)

    @saga.compensable()
    async def first(what: str) -> str:
        return what

    @first.compensation
    async def undo(what: str, reply: str | None) -> None:
        return None

    @saga.pivot(first)
    async def second(what: str, reply: str) -> str:
        return reply

    async with Orchestrator([saga], log=f"sqlite:///{tmp_path}/log.db", runs_max=20) as runs:
        started = await asyncio.gather(*(runs.start(saga, "x", id=f"h{i}") for i in range(200)))
        outcomes = [await run.outcome() for run in started]
        assert all(isinstance(each, Completed) for each in outcomes)
        async with asyncio.timeout(10):
            while runs.engine.worker.runs:  # noqa: ASYNC110 - a turn of the loop or two
                await asyncio.sleep(0)
        assert_empty(runs)
    assert len(asyncio.all_tasks()) == 1


def test_leaving_gives_calls_in_flight_their_time() -> None:
    order, log = order_saga(), SlowLog()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(3)
        return yes()

    shop = Pretend(slowly)

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            await runs.start(order, "x", id="o")
            await until(lambda: bool(shop.sent))
        assert 3 <= seconds() < 4
        assert log.kinds("o")[-2:] == ["ActionSucceeded", "ActionRequested"], "what it said is kept"
        assert shop.keys == ["o:reserve:action"], "nothing new is sent"
        assert shop.closed == 1
        assert len(asyncio.all_tasks()) == 1

    virtually(test)


def test_leaving_does_not_wait_for_ever() -> None:
    order, log = order_saga(), SlowLog()

    async def never(call: Outgoing) -> Came:
        await asyncio.sleep(1_000_000)
        return yes()

    shop = Pretend(never)

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            await runs.start(order, "x", id="o")
            verb = asyncio.create_task(runs.cancel("o", reason="at the last moment"))
            await asyncio.sleep(0.1)
        assert 10 <= seconds() < 11
        await verb
        assert not shop.in_flight
        shop.does = None
        async with opened([order], log, shop=shop) as runs:
            assert isinstance(await runs.get("o").outcome(), Compensated)

    virtually(test)


def test_who_steers_while_the_orchestrator_closes_gets_an_answer() -> None:
    order, log = order_saga(), SlowLog(append_seconds=1)

    async def test() -> None:
        async with opened([order], log, shop=Pretend(Script(reserve=LOST))) as runs:
            await runs.start(order, "x", id="o")
            verbs = [asyncio.create_task(runs.cancel("o", reason=f"{i}")) for i in range(3)]
            await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            said = await asyncio.gather(*verbs, return_exceptions=True)
        assert all(each is None or isinstance(each, AmendsError) for each in said)

    virtually(test)


def test_a_log_that_cannot_be_closed_cleanly_still_lets_go_of_the_rest() -> None:
    order, shop = order_saga(), Pretend()

    class Torn(SlowLog):
        async def close(self) -> None:
            await super().close()
            raise AmendsError("torn")

    async def test() -> None:
        with pytest.raises(AmendsError, match="torn"):
            async with opened([order], Torn(), shop=shop) as runs:
                await (await runs.start(order, "x")).outcome()

    virtually(test)
    assert shop.closed == 1


def test_a_lane_forgets_who_left_the_queue() -> None:
    lane: Lane[QueuedCall] = Lane("p", Pretend(), at_once=1)
    calls = [QueuedCall(urgent=i % 3 == 0) for i in range(100)]
    assert [lane.enter(each) for each in calls].count(True) == 1
    assert lane.waiting == 99
    for each in calls[1:50]:
        each.gone = True
        assert lane.leave(each) is None
    assert lane.waiting == 50
    order: list[QueuedCall] = []
    following = lane.leave(calls[0])
    while following is not None:
        order.append(following)
        following = lane.leave(following)
    assert order == [each for each in calls[50:] if each.urgent] + [each for each in calls[50:] if not each.urgent]
    assert (lane.in_flight, lane.waiting) == (0, 0)
