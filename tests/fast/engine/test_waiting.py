"""Runs that wait do so in the log, however many they are, and are woken when they are due."""

# pyright: reportPrivateUsage=false

import asyncio
from datetime import timedelta

import pytest

from amends.core.run.answers import Came
from amends.core.saga.operation import Call, ask, sleep
from amends.core.saga.outcomes import Compensated, Completed, Stuck, Unfinished
from amends.core.saga.saga import Saga
from amends.engine.wakeups import TIDY_FROM
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    Pretend,
    Script,
    Shop,
    SlowLog,
    assert_empty,
    busy,
    opened,
    order_saga,
    seconds,
    until,
    virtually,
    yes,
)


def test_more_runs_than_memory_holds_wait_in_the_log_and_all_end() -> None:
    order, most = order_saga(), [0]

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.05)
        most[0] = max(most[0], len(known[0].engine.worker.runs))
        return yes()

    known: list[Orchestrator] = []
    log, shop = SlowLog(), Pretend(slowly)

    async def test() -> None:
        async with opened([order], log, shop=shop, runs_max=10) as runs:
            known.append(runs)
            started = await asyncio.gather(*(runs.start(order, "x", id=f"o{i}") for i in range(300)))
            outcomes = [await run.outcome() for run in started]
            assert all(isinstance(each, Completed) for each in outcomes)
            assert_empty(runs)

    virtually(test)
    assert most[0] == 10
    assert set(shop.counts().values()) == {1}


def waiting_saga() -> Saga[str]:
    saga = Saga("waiting", str)

    @saga.compensable()
    def hold(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.neutral(after=[hold])
    def cooling(what: str) -> Call[None]:
        return sleep(timedelta(minutes=30))

    @saga.pivot(after=[cooling])
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    return saga


def test_a_sleeping_run_uses_no_memory_and_ends_by_itself() -> None:
    saga, log = waiting_saga(), SlowLog()

    async def test() -> None:
        async with opened([saga], log, shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="s")
            await until(lambda: log.kinds("s")[-1] == "ActionRequested" and not runs.engine.worker.runs, within=5)
            row = log.store.runs["s"].row
            assert row.owner is None
            assert row.due_at is not None
            assert isinstance(await run.outcome(wait=timedelta(minutes=5)), Unfinished)
            assert not runs.engine.worker.runs
            assert isinstance(await run.outcome(), Completed)
            assert 1800 <= seconds() < 1803
            assert_empty(runs)

    virtually(test)


def test_a_run_that_begins_by_sleeping_waits_in_the_log_at_once() -> None:
    saga, log = Saga("nap", str), SlowLog()

    @saga.neutral()
    def nap(what: str) -> Call[None]:
        return sleep(timedelta(minutes=2))

    async def test() -> None:
        async with opened([saga], log, shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="s")
            await until(lambda: not runs.engine.worker.runs, within=5)
            assert isinstance(await run.outcome(), Completed)
            assert 120 <= seconds() < 122

    virtually(test)


def test_a_sleep_goes_on_after_the_process_was_away() -> None:
    saga, store = waiting_saga(), MemoryStore()

    async def test() -> None:
        async with opened([saga], MemoryLog(store), shop=Pretend()) as runs:
            await runs.start(saga, "x", id="s")
            await asyncio.sleep(1)
        await asyncio.sleep(3_600)
        async with opened([saga], MemoryLog(store), shop=Pretend()) as runs:
            assert isinstance(await runs.get("s").outcome(wait=timedelta(seconds=1)), Completed)

    virtually(test)


def test_retry_ends_a_sleep_now() -> None:
    saga = waiting_saga()

    async def test() -> None:
        async with opened([saga], SlowLog(), shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="s")
            await asyncio.sleep(60)
            assert not runs.engine.worker.runs
            await runs.retry("s", reason="long enough", step=saga.steps[1])
            assert isinstance(await run.outcome(wait=timedelta(seconds=3)), Completed)

    virtually(test)


def asking_saga() -> Saga[str]:
    saga = Saga("asking", str)

    @saga.compensable()
    def hold(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.neutral(after=[hold])
    def approve(what: str) -> Call[str]:
        return ask(str, "well?", within=timedelta(hours=1))

    @saga.pivot(approve)
    def pay(what: str, approved: str) -> Call[str]:
        return Shop.act(approved)

    return saga


@pytest.mark.parametrize("waits", [0.0, 60.0], ids=["in memory or nearly", "in the log"])
def test_a_question_that_is_answered(waits: float) -> None:
    saga, shop = asking_saga(), Pretend()

    async def test() -> None:
        async with opened([saga], SlowLog(), shop=shop) as runs:
            run = await runs.start(saga, "x", id="q")
            await until(lambda: "q:hold:action" in shop.keys)
            await asyncio.sleep(0.05 + waits)
            await runs.answer("q", saga.steps[1], "bo")
            await runs.answer("q", saga.steps[1], "bo")
            assert isinstance(await run.outcome(wait=timedelta(seconds=5)), Completed)
            assert_empty(runs)

    virtually(test)
    assert shop.sent[-1].body == b'{"what":"bo"}'


def test_a_question_that_is_declined_turns_the_run_back() -> None:
    saga = asking_saga()

    async def test() -> None:
        async with opened([saga], shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="q")
            await asyncio.sleep(60)
            await runs.decline("q", saga.steps[1], "too much")
            outcome = await run.outcome(wait=timedelta(seconds=5))
            assert str(outcome) == "compensated  approve said no: too much; undone: hold"

    virtually(test)


def test_a_question_that_nobody_answers_is_a_no() -> None:
    saga = asking_saga()

    async def test() -> None:
        async with opened([saga], shop=Pretend()) as runs:
            outcome = await (await runs.start(saga, "x", id="q")).outcome()
            assert isinstance(outcome, Compensated)
            assert outcome.code == "no-answer"
            assert 3600 <= seconds() < 3603
            assert_empty(runs)

    virtually(test)


def test_a_deadline_turns_a_run_back_that_waits_in_the_log() -> None:
    saga = waiting_saga()

    async def test() -> None:
        async with opened([saga], shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="s", deadline=timedelta(minutes=2))
            assert str(await run.outcome()) == "compensated  deadline passed; undone: hold"
            assert 120 <= seconds() < 122
            assert_empty(runs)

    virtually(test)


def test_a_deadline_turns_a_run_back_that_is_in_memory() -> None:
    order, shop = order_saga(), Pretend(Script(reserve=LOST))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            run = await runs.start(order, "x", deadline=timedelta(seconds=3))
            assert isinstance(await run.outcome(), Compensated)
            assert 3 <= round(seconds(), 6) < 3.1  # a sum of waits, each a float

    virtually(test)


def test_a_deadline_past_the_pivot_stops_nothing() -> None:
    order, shop = order_saga(), Pretend(Script(ship=[busy("60"), yes()]))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            run = await runs.start(order, "x", deadline=timedelta(seconds=3))
            assert isinstance(await run.outcome(), Completed)

    virtually(test)


def test_a_wait_between_attempts_that_is_long_is_spent_in_the_log() -> None:
    order, shop, log = order_saga(), Pretend(Script(reserve=[busy("600"), yes()])), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            await asyncio.sleep(60)
            assert not runs.engine.worker.runs
            assert isinstance(await run.outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    first, second = shop.times("o:reserve:action")
    assert second - first == pytest.approx(600, abs=2)


def test_runs_that_are_over_leave_no_moment_behind() -> None:
    """A far deadline would keep each of them in memory till then."""
    order = order_saga()

    async def test() -> None:
        async with opened([order], shop=Pretend()) as runs:
            for _ in range(20):
                started = [await runs.start(order, "x", deadline=timedelta(days=30)) for _ in range(50)]
                for run in started:
                    await run.outcome()
            assert len(runs.engine.worker._alarm._heap) <= TIDY_FROM
            assert_empty(runs)

    virtually(test)


def test_a_question_past_the_pivot_that_nobody_answers_is_for_a_person_once() -> None:
    saga, log = Saga("late", str), SlowLog()

    @saga.pivot()
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.neutral(after=[pay])
    def survey(what: str) -> Call[str]:
        return ask(str, "well?", within=timedelta(hours=1))

    async def test() -> None:
        async with opened([saga], log, shop=Pretend()) as runs:
            run = await runs.start(saga, "x", id="q")
            assert isinstance(await run.outcome(), Stuck)
            before = log.kinds("q")
            await asyncio.sleep(3_600)
            assert log.kinds("q") == before
            assert_empty(runs)
            await runs.retry("q", reason="ask again", step=saga.steps[1])
            await asyncio.sleep(60)
            await runs.answer("q", saga.steps[1], "fine")
            assert isinstance(await run.outcome(wait=timedelta(seconds=5)), Completed)
            assert_empty(runs)

    virtually(test)
