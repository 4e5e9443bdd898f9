"""The workshop for tests that can't await."""

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest

from amends import Compensated, Completed, PastPivot, Unfinished
from amends.testing import FaultNeverFired, blocking_workshop
from tests.fast.testing.shop import ORDER, Inventory, Payments, Shipping, Stock, approve, patient, place_order


@pytest.fixture
def stock(tmp_path: Path) -> Generator[Stock]:
    opened = Stock(tmp_path)
    yield opened
    opened.close()


def test_an_order_survives_a_crash_without_awaiting_anything(stock: Stock) -> None:
    routes = [Inventory.at(stock.service), Payments.at("made-up"), Shipping.at("made-up")]
    with blocking_workshop([place_order], routes) as shop:
        shop.faults.lose_reply(Inventory.reserve)
        shop.faults.crash_orchestrator(after="hold:action answered")
        run = shop.runs.start(place_order, ORDER)
        shop.clock.jump(timedelta(minutes=1))
        assert isinstance(run.outcome(), Completed)
        with pytest.raises(PastPivot):
            shop.runs.cancel(run.id, reason="too late")
    assert (stock.free, stock.calls) == (8, 1)


def test_people_answer_and_decline() -> None:
    with blocking_workshop([patient], [Payments.at("made-up")]) as shop:
        opened = shop.clock.now
        said_yes, said_no = shop.runs.start(patient, ORDER), shop.runs.start(patient, ORDER)
        shop.clock.jump(timedelta(days=1))
        assert isinstance(said_yes.outcome(wait=timedelta(hours=1)), Unfinished)
        assert shop.clock.now - opened == timedelta(hours=25)
        shop.runs.answer(said_yes.id, approve, reply=True)
        shop.runs.decline(said_no.id, approve, "too dear")
        assert isinstance(shop.runs.get(said_yes.id).outcome(), Completed)
        assert isinstance(shop.runs.get(said_no.id).outcome(), Compensated)
        assert [each.step for each in shop.calls] == ["pay"]


def test_its_faults_must_fire_too() -> None:
    shop = blocking_workshop([patient], [Payments.at("made-up")])
    with (
        pytest.raises(FaultNeverFired, match=r"outage\(Payments, lasting=0:00:05\): nothing was sent there"),
        shop as it,
    ):
        it.faults.outage(Payments, lasting=timedelta(seconds=5))


async def test_inside_a_running_loop_it_names_the_other_one() -> None:
    with pytest.raises(RuntimeError, match=r"there: `async with workshop"):
        blocking_workshop([patient], [Payments.at("made-up")]).__enter__()
