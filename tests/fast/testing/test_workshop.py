"""Workshops: the real engine and real services, on a clock that jumps, with faults that must fire."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from amends import Call, Compensated, Completed, NoRoute, PastPivot, Policy, Retry, Saga, Stuck, Unfinished
from amends.core.words.retry import Patience, delay, micros
from amends.testing import FaultNeverFired, NothingIsDue, Sent, Workshop, workshop
from tests.fast.testing.shop import (
    ORDER,
    Bank,
    Inventory,
    Order,
    Payments,
    Receipt,
    Reservation,
    Reserve,
    Shipping,
    Stock,
    approve,
    charge,
    hold,
    opened_bank,
    patient,
    place_order,
    ship,
)

MADE_UP = [Inventory.at("made-up"), Payments.at("made-up"), Shipping.at("made-up")]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def stock(tmp_path: Path) -> Generator[Stock]:
    opened = Stock(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncGenerator[Bank]:
    async with opened_bank(tmp_path) as opened:
        yield opened


@pytest.fixture
async def shop(stock: Stock, bank: Bank) -> AsyncGenerator[Workshop]:
    routes = [Inventory.at(stock.service), Payments.at(bank.app), Shipping.at("made-up")]
    async with workshop([place_order], routes) as opened:
        yield opened


def told(calls: Sequence[Sent]) -> list[str]:
    return [f"{each.step}:{each.phase} {each.attempt}" for each in calls]


# -- the whole, with services on their own databases


async def test_an_order_arrives(shop: Workshop, stock: Stock, bank: Bank) -> None:
    run = await shop.runs.start(place_order, ORDER)
    outcome = await run.outcome()
    assert isinstance(outcome, Completed)
    assert outcome.reply(ship).tracking.startswith("tracking-")
    assert outcome.reply(hold) == Receipt("h-1", [])
    assert (stock.free, await bank.credit()) == (8, 5_800)
    assert [each.step for each in shop.calls] == ["reserve", "hold", "charge", "ship"]
    assert shop.sent(Inventory.reserve) == [Reserve(sku="sku-1", quantity=2)]


async def test_payment_outage_then_decline(shop: Workshop, stock: Stock, bank: Bank) -> None:
    shop.faults.outage(Payments, lasting=timedelta(minutes=3))
    shop.faults.lose_reply(Inventory.reserve)
    run = await shop.runs.start(place_order, Order(cents=10_001))
    await shop.clock.jump(timedelta(minutes=10))
    outcome = await run.outcome()
    assert isinstance(outcome, Compensated)
    assert outcome.code == "card-declined"
    assert (stock.free, await bank.credit()) == (10, 10_000)
    shop.faults.assert_all_fired()


async def test_a_late_reserve_after_cancel_is_blocked(shop: Workshop, stock: Stock, bank: Bank) -> None:
    shop.faults.crash_orchestrator(after="reserve:action sent")
    run = await shop.runs.start(place_order, ORDER)
    await shop.runs.cancel(run.id, reason="changed my mind")
    assert isinstance(await run.outcome(), Compensated)
    assert (stock.free, stock.calls, await bank.credit()) == (10, 1, 10_000)
    assert [each.epoch for each in shop.calls if each.phase == "action" and each.step == "reserve"] == [1, 2]


async def test_a_reserve_that_comes_after_its_undo_does_nothing(shop: Workshop, stock: Stock) -> None:
    shop.faults.slow(Inventory.reserve, by=HOUR)
    run = await shop.runs.start(place_order, ORDER)
    await shop.runs.cancel(run.id, reason="changed my mind")
    assert isinstance(await run.outcome(), Compensated)
    await shop.clock.jump(HOUR)
    with stock.inbox.transaction() as db:
        assert db.execute("select state from amends_barrier").fetchall() == [("blocked",)]
    assert (stock.free, stock.calls) == (10, 0)


@pytest.mark.parametrize("point", ["requested", "sent", "answered", "logged"])
@pytest.mark.parametrize("step", ["reserve", "hold", "charge", "ship"])
@pytest.mark.parametrize("log", ["memory:", "sqlite:///{}/runs.db"])
async def test_an_order_survives_a_crash_anywhere(stock: Stock, bank: Bank, step: str, point: str, log: str) -> None:
    routes = [Inventory.at(stock.service), Payments.at(bank.app), Shipping.at("made-up")]
    async with workshop([place_order], routes, log=log.format(stock.folder)) as shop:
        shop.faults.crash_orchestrator(after=f"{step}:action {point}")
        run = await shop.runs.start(place_order, ORDER)
        assert run.is_new
        assert isinstance(await run.outcome(), Completed)
        assert {each.epoch for each in shop.calls} <= {1, 2}
    assert (stock.free, stock.calls, await bank.credit()) == (8, 1, 5_800)


async def test_an_undo_survives_a_crash(stock: Stock, bank: Bank) -> None:
    routes = [Inventory.at(stock.service), Payments.at(bank.app), Shipping.at("made-up")]
    for point in ("requested", "sent", "answered", "logged"):
        async with workshop([place_order], routes) as shop:
            shop.faults.crash_orchestrator(after=f"reserve:compensation {point}")
            run = await shop.runs.start(place_order, Order(cents=10_001))
            assert isinstance(await run.outcome(), Compensated)
        assert (stock.free, await bank.credit()) == (10, 10_000)


async def test_an_undo_by_an_owner_before_the_one_that_acted_is_refused(shop: Workshop, stock: Stock) -> None:
    """The first orchestrator died before its call arrived, the second one acted. A message of the first, under its
    epoch, is told apart: nothing is undone.
    """
    shop.faults.crash_orchestrator(after="reserve:action requested")
    run = await shop.runs.start(place_order, ORDER)
    assert isinstance(await run.outcome(), Completed)
    (call,) = [each for each in shop.calls if each.step == "reserve"]
    assert call.epoch == 2
    undo = b'{"request":' + call.body + b',"reply":null,"reply_known":false,"reason":"a former owner wants it so"}'
    headers = {
        "Idempotency-Key": f'"{run.id}:reserve:compensation"',
        "Saga-Kind": "compensable",
        "Saga-Since": datetime.now(UTC).isoformat(),
        "Saga-Epoch": "1",
    }
    stale = await stock.service.handle(headers, "release", undo)
    assert (stale.status, stale.headers.get("saga-outcome")) == (412, None)
    assert b"urn:amends:stale-epoch" in stale.body
    assert (stock.free, stock.calls) == (8, 1)
    undone = await stock.service.handle({**headers, "Saga-Epoch": "2"}, "release", undo)
    assert (undone.status, stock.free) == (200, 10), "the owner itself may"


async def test_a_second_copy_does_nothing(shop: Workshop, stock: Stock, bank: Bank) -> None:
    shop.faults.duplicate(Inventory.reserve)
    shop.faults.duplicate(Payments.hold, phase="compensation")
    run = await shop.runs.start(place_order, ORDER)
    await shop.runs.cancel(run.id, reason="no")
    assert isinstance(await run.outcome(), Compensated)
    assert (stock.free, await bank.credit()) == (10, 10_000)


async def test_a_request_that_comes_after_its_time_out_acts_once(shop: Workshop, stock: Stock) -> None:
    shop.faults.slow(Inventory.reserve, by=MINUTE)
    run = await shop.runs.start(place_order, ORDER)
    assert isinstance(await run.outcome(), Completed)
    await shop.clock.jump(MINUTE)
    assert (stock.free, stock.calls) == (8, 1)
    assert [each.attempt for each in shop.calls if each.step == "reserve"] == [1, 2]


# -- time


async def test_a_day_and_two_more_pass_in_no_time() -> None:
    began = time.monotonic()
    async with workshop([patient], [Payments.at("made-up")]) as shop:
        opened = shop.clock.now
        run = await shop.runs.start(patient, ORDER, id="order-1")
        await shop.clock.jump(DAY - timedelta(microseconds=1))
        assert await run.outcome(wait=timedelta(0)) == Unfinished("order-1", "running", ("cooling_off",))
        await shop.clock.jump(timedelta(microseconds=1))
        assert await run.outcome(wait=timedelta(0)) == Unfinished("order-1", "running", ("approve",))
        outcome = await run.outcome()
        assert isinstance(outcome, Compensated)
        assert outcome.code == "no-answer"
        assert shop.clock.now - opened == 3 * DAY
        assert not shop.calls
    assert time.monotonic() - began < 5


async def test_an_answer_in_time_goes_on() -> None:
    async with workshop([patient], [Payments.at("made-up")]) as shop:
        run = await shop.runs.start(patient, ORDER)
        await shop.clock.jump(2 * DAY)
        await shop.runs.answer(run.id, approve, reply=True)
        assert isinstance(await run.outcome(), Completed)
        assert [each.step for each in shop.calls] == ["pay"]


async def test_a_deadline_turns_the_run_back_at_its_moment() -> None:
    async with workshop([patient], [Payments.at("made-up")], starts=datetime(2030, 1, 1, tzinfo=UTC)) as shop:
        run = await shop.runs.start(patient, ORDER, deadline=HOUR)
        await shop.clock.jump(HOUR - timedelta(seconds=1))
        assert isinstance(await run.outcome(wait=timedelta(0)), Unfinished)
        assert isinstance(outcome := await run.outcome(), Compensated)
        assert outcome.reason == "deadline passed"
        assert shop.clock.now == datetime(2030, 1, 1, 1, tzinfo=UTC)


async def test_attempts_leave_at_their_very_moments() -> None:
    """Every time-out is five seconds, every wait between attempts what the policy says, to the microsecond."""
    tries = Saga("tries", Order)

    @tries.compensable(policy=Policy(retry=Retry(attempts_max=6)))
    def reserve(order: Order) -> Call[Reservation]:
        return Inventory.reserve(sku=order.sku, quantity=order.quantity)

    async with workshop([tries], [Inventory.at("made-up")]) as shop:
        shop.faults.lose_reply(Inventory.reserve, times=5)
        run = await shop.runs.start(tries, ORDER, id="order-1")
        assert isinstance(await run.outcome(), Completed)
        moments = [each.at for each in shop.calls]
    patience = Patience(6, micros(DAY), micros(timedelta(seconds=1)), micros(timedelta(seconds=60)))
    waits = [timedelta(microseconds=delay(patience, "order-1:reserve:action", n)) for n in range(1, 6)]
    assert [later - earlier for earlier, later in pairwise(moments)] == [timedelta(seconds=5) + wait for wait in waits]


async def test_a_refused_connection_is_known_not_to_have_left() -> None:
    tries = Saga("tries", Order)

    @tries.compensable(policy=Policy(retry=Retry(attempts_max=2)))
    def reserve(order: Order) -> Call[Reservation]:
        return Inventory.reserve(sku=order.sku, quantity=order.quantity)

    async with workshop([tries], [Inventory.at("made-up")]) as shop:
        shop.faults.reject_connection(Inventory.reserve, times=2)
        run = await shop.runs.start(tries, ORDER)
        assert isinstance(outcome := await run.outcome(), Compensated)
        assert outcome.reason.startswith("reserve could not be reached: no connection to inventory: reject_connection(")
        assert told(shop.calls) == ["reserve:action 1", "reserve:action 2"]


async def test_what_never_gets_through_is_stuck_when_patience_ends() -> None:
    async with workshop([place_order], MADE_UP) as shop:
        opened = shop.clock.now
        shop.faults.outage(Shipping, lasting=DAY)
        run = await shop.runs.start(place_order, ORDER)
        outcome = await run.outcome()
        assert isinstance(outcome, Stuck)
        assert outcome.step == "ship"
        assert HOUR < shop.clock.now - opened <= 2 * HOUR + MINUTE
        await shop.clock.jump(DAY)
        with pytest.raises(PastPivot):
            await shop.runs.cancel(run.id, reason="too late")
        await shop.runs.retry(run.id, reason="they are back")
        assert isinstance(await run.outcome(), Completed)


async def test_waiting_for_what_will_never_happen_says_so() -> None:
    async with workshop([place_order], MADE_UP) as shop:
        with pytest.raises(NothingIsDue, match="isn't so, but nothing is under way"):
            await shop.clock.pass_until(lambda: False, None, "this isn't so")


async def test_time_waits_for_real_work(stock: Stock) -> None:
    """A thread that is at work for a while of real time costs no virtual time at all."""
    slow = Saga("slow", Order)

    @slow.compensable()
    async def think(order: Order) -> str:
        await asyncio.sleep(0.05)
        return await asyncio.to_thread(lambda: "thought")

    @think.compensation
    async def forget(order: Order, thought: str | None) -> None:
        await asyncio.sleep(0)

    @slow.pivot(after=[think])
    async def act(order: Order) -> str:
        return "done"

    _ = (forget, act)
    async with workshop([slow]) as shop:
        opened = shop.clock.now
        run = await shop.runs.start(slow, ORDER)
        await shop.clock.jump(timedelta(0))
        assert isinstance(await run.outcome(wait=timedelta(0)), Completed)
        assert shop.clock.now == opened


# -- faults


async def test_a_fault_that_never_fires_fails_the_test() -> None:
    async def with_faults_that_cant_fire() -> None:
        async with workshop([place_order], MADE_UP) as shop:
            shop.faults.lose_reply(Payments.hold)
            shop.faults.duplicate(Inventory.reserve, times=2)
            shop.faults.crash_orchestrator(after="reserve:compensation sent")
            shop.faults.outage(Shipping, lasting=MINUTE)
            run = await shop.runs.start(place_order, ORDER, id="order-1")
            await shop.clock.jump(HOUR)
            assert isinstance(await run.outcome(), Completed)

    with pytest.raises(FaultNeverFired) as failure:
        await with_faults_that_cant_fire()
    assert str(failure.value).startswith(
        "these faults never fired, so nothing was tested against them:\n"
        "  duplicate(Inventory.reserve): fired 1 of 2 times\n"
        "  crash_orchestrator(after='reserve:compensation sent'): fired 0 of 1 times\n"
        "sent: reserve:action, hold:action x2, charge:action, ship:action x"
    )


async def test_the_check_can_be_turned_off_and_never_hides_a_failure() -> None:
    async with workshop([place_order], MADE_UP, faults_must_fire=False) as shop:
        shop.faults.lose_reply(Payments.hold)

    async def fails() -> None:
        async with workshop([place_order], MADE_UP) as shop:
            shop.faults.lose_reply(Payments.hold)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()


async def test_a_crash_is_asked_for_by_names_that_exist() -> None:
    async with workshop([place_order], MADE_UP) as shop:
        for wrong in ("resrve:action sent", "reserve:acton sent", "reserve:action send", "reserve"):
            with pytest.raises(ValueError, match=r"Steps: charge, hold, reserve, ship\. Phases: action"):
                shop.faults.crash_orchestrator(after=wrong)


async def test_routes_are_checked_at_once() -> None:
    with pytest.raises(NoRoute, match="neither a URL nor 'made-up'"):
        await workshop([place_order], [Inventory.at("madeup")]).__aenter__()
    with pytest.raises(NoRoute, match="no route for Shipping"):
        await workshop([place_order], MADE_UP[:2]).__aenter__()


# -- order


async def test_the_same_test_makes_the_same_calls_every_time(tmp_path: Path) -> None:
    """Threads, two databases and a crash, fifty times: what was sent when is the same to the microsecond."""
    seen: set[tuple[Sent, ...]] = set()
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        stock = Stock(folder)
        async with opened_bank(folder, credit=4_199) as bank:
            routes = [Inventory.at(stock.service), Payments.at(bank.app), Shipping.at("made-up")]
            async with workshop([place_order], routes, starts=datetime(2030, 1, 1, tzinfo=UTC)) as shop:
                shop.faults.lose_reply(Inventory.reserve)
                shop.faults.outage(Payments, lasting=timedelta(seconds=7))
                shop.faults.crash_orchestrator(after="reserve:action answered")
                run = await shop.runs.start(place_order, ORDER, id="order-1")
                assert isinstance(await run.outcome(), Compensated)
                seen.add(tuple(shop.calls))
        stock.close()
    assert len(seen) == 1, [told(each) for each in seen]


async def test_made_up_replies_differ_and_are_repeated_under_the_same_key() -> None:
    async with workshop([place_order], MADE_UP) as shop:
        shop.faults.lose_reply(Payments.hold)
        first, second = [await shop.runs.start(place_order, ORDER) for _ in range(2)]
        replies = [await run.outcome() for run in (first, second)]
    assert isinstance(replies[0], Completed)
    assert isinstance(replies[1], Completed)
    made = [outcome.reply(step) for outcome in (replies[0], replies[1]) for step in (hold, charge)]
    assert len({receipt.number for receipt in made}) == 4
    assert all(len(set(receipt.lines)) == 2 for receipt in made)


async def test_several_tasks_may_wait_for_outcomes_together(shop: Workshop, stock: Stock) -> None:
    shop.faults.lose_reply(Inventory.reserve, times=3)
    runs = [await shop.runs.start(place_order, Order(quantity=1, cents=1)) for _ in range(5)]
    outcomes = await asyncio.gather(*(run.outcome() for run in runs))
    assert all(isinstance(each, Completed) for each in outcomes)
    assert stock.free == 5
