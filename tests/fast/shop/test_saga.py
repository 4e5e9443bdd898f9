"""The two sagas have the shapes they are described with."""

import pytest

from amends import Rejected
from amends.shop.saga import Line, Order, place_held_order, place_order, reserve

ORDER = Order(
    id="order-1", customer="ann", address="1 Mill Lane, Easton", lines=[Line("sku-1", 2, 500), Line("sku-2", 1, 900)]
)


def test_an_order_costs_what_its_lines_cost() -> None:
    assert ORDER.cents == 1_900


def test_every_line_is_a_call_of_its_own() -> None:
    calls = reserve.function(ORDER)
    assert {sku: call.operation for sku, call in calls.items()} == dict.fromkeys(
        ("sku-1", "sku-2"), "inventory.reserve"
    )


@pytest.mark.parametrize(
    ("lines", "code"), [([], "empty-order"), ([Line("sku-1", 1, 5), Line("sku-1", 2, 5)], "line-twice")]
)
def test_an_order_that_makes_no_sense_is_turned_back_before_anybody_is_asked(lines: list[Line], code: str) -> None:
    with pytest.raises(Rejected) as said:
        reserve.function(Order(id="order-1", customer="ann", address="x", lines=lines))
    assert said.value.code == code


def test_both_sagas_are_fine() -> None:
    assert place_order.check() == []
    assert place_held_order.check() == []


def test_steps_run_at_once_where_nothing_says_otherwise() -> None:
    first, second, third = place_order.steps
    assert [step.name for step in place_order.steps] == ["reserve", "charge", "schedule"]
    assert not first.reads
    assert not first.after
    assert not second.reads
    assert not second.after
    assert (third.reads, third.after) == ((first,), (second,))
    assert [step.kind.value for step in place_held_order.steps] == [
        "neutral",
        "compensable",
        "compensable",
        "pivot",
        "retriable",
    ]
