"""Stories on paper: what is given happens, what isn't is made up, and what went another way is told in full."""

import pytest

from amends import Completed, DefinitionInvalid, Saga, Stuck
from amends.core.words.errors import AmendsError
from amends.testing import BadPath, NeverHappened, Scenario, Unexpected
from tests.fast.testing.scenario_shop import (
    Approval,
    Basket,
    Hold,
    Inventory,
    Order,
    Payments,
    PlaceHold,
    Reservation,
    ReserveItems,
    Schedule,
    Shipment,
    Shipping,
    approve,
    basket,
    book,
    capture,
    first,
    hold,
    place_order,
    reserve,
    reserve_all,
    second,
    ship,
    ship_all,
    simple,
)

ORDER = Order(id="order-1", customer="ann", sku="sku-1", quantity=2, cents=4200, address="here")
WENT_ANOTHER_WAY = """
the story went another way
  expected state: completed
  happened state: compensated
  expected effects: ['reserve', 'hold']
  happened effects: ['reserve', 'undo reserve']
  expected reason: no stock
  happened reason: compensated  hold said no: too poor; undone: reserve
  1  start
  2  reserve      -> succeeded   effect: reserve
  3  hold         -> no: too poor
  4  undo reserve -> succeeded   effect: undo reserve
  in the end: compensated  hold said no: too poor; undone: reserve
  again: Scenario(place_order, ORDER).rejects(hold, 'too poor').play()
"""
BASKET = Basket(customer="ann", address="here", skus=["a.b", "c"])


def test_declined_card_releases_the_stock() -> None:
    story = Scenario(place_order, ORDER).rejects(hold, "declined", code="card-declined").play()
    assert story.state == "compensated"
    assert story.effects == ["reserve", "undo reserve"]
    assert story.sent(Inventory.reserve) == [ReserveItems(sku="sku-1", quantity=2)]
    assert story.sent(Inventory.release) == [ReserveItems(sku="sku-1", quantity=2)]
    assert "card-declined" in str(story.outcome)


def test_lost_answer_of_a_hold_that_took_effect_is_undone() -> None:
    story = Scenario(place_order, ORDER).times_out(hold, took_effect=True).rejects(reserve).play()
    assert "undo hold" in story.effects


def test_the_pivot_is_where_we_think_it_is() -> None:
    assert Scenario(place_order, ORDER).cancelled_after(capture).play().state == "completed"
    assert Scenario(place_order, ORDER).cancelled_after(reserve).play().state == "compensated"
    assert Scenario(place_order, ORDER).cancelled_after(hold).play().state == "completed", "the pivot had left"


def test_replies_given_are_read_by_later_steps_and_by_whoever_waits() -> None:
    story = Scenario(place_order, ORDER).replies(reserve, Reservation("r-77")).replies(ship, Shipment("t-1")).play()
    assert story.sent(Shipping.schedule) == [Schedule(address="here", reservation="r-77")]
    assert isinstance(story.outcome, Completed)
    assert story.outcome.reply(ship) == Shipment("t-1")


def test_what_is_not_given_is_made_up_of_the_right_type_and_differs() -> None:
    story = Scenario(place_order).play()
    assert isinstance(story.outcome, Completed)
    reserved, held = story.outcome.reply(reserve), story.outcome.reply(hold)
    assert isinstance(reserved, Reservation)
    assert isinstance(held, Hold)
    assert reserved.id != held.id
    assert len(set(story.outcome.reply(capture).lines)) == 2
    assert story.sent(Payments.hold) == [PlaceHold(customer="customer-1", cents=1)]


def test_made_up_values_are_the_same_in_every_story() -> None:
    one, other = Scenario(place_order).play(), Scenario(place_order).cancelled_after(capture).play()
    assert one.sent(Shipping.schedule) == other.sent(Shipping.schedule)


def test_a_hold_that_never_answers_is_asked_for_and_undone_or_never_was() -> None:
    for took_effect, effects in ((True, ["reserve", "hold", "undo reserve", "undo hold"]), (False, ["reserve"])):
        story = Scenario(place_order, ORDER).times_out(hold, took_effect=took_effect).play()
        assert len(story.sent(Payments.hold)) == 5, "every attempt of its policy"
        if not took_effect:
            assert story.state == "compensated"
            assert story.effects == [*effects, "undo reserve"]
        else:
            assert story.effects[:2] == effects[:2]


def test_a_compensation_that_is_refused_is_for_a_person() -> None:
    story = Scenario(place_order, ORDER).refuses_compensation(reserve).rejects(capture).play()
    assert isinstance(story.outcome, Stuck)
    assert story.outcome.step == "reserve"
    assert story.left_behind == ["reserve"]
    assert "undo hold" in story.effects, "branches that don't depend on it go on"


def test_a_retriable_that_never_answers_is_tried_for_a_day_and_then_stuck() -> None:
    story = Scenario(place_order, ORDER).times_out(ship, took_effect=False).play()
    assert isinstance(story.outcome, Stuck)
    assert len(story.sent(Shipping.schedule)) > 1_000


# -- steps of every shape


def test_many_perhaps_ask_sleep_and_local_work() -> None:
    story = (
        Scenario(basket, BASKET)
        .replies(reserve_all, {"a.b": Reservation("r-1"), "c": Reservation("r-2")})
        .replies(approve, Approval("bo"))
        .replies(book, 7)
        .replies(ship_all, [Shipment("t-1"), Shipment("t-2")])
        .play()
    )
    assert isinstance(story.outcome, Completed)
    assert story.outcome.reply(reserve_all) == {"a.b": Reservation("r-1"), "c": Reservation("r-2")}
    assert story.outcome.reply(approve) == Approval("bo")
    assert story.outcome.reply(book) == 7
    assert story.outcome.reply(ship_all) == [Shipment("t-1"), Shipment("t-2")]
    assert [each.reservation for each in story.sent(Shipping.schedule)] == ["r-1", "r-2"]


def test_items_are_made_up_apart_from_each_other() -> None:
    story = Scenario(basket).play()
    assert isinstance(story.outcome, Completed)
    made = [each.id for each in story.outcome.reply(reserve_all).values()]
    assert len(set(made)) == 2


def test_a_person_who_declines_or_never_answers_turns_the_run_back() -> None:
    for given in (
        Scenario(basket, BASKET).rejects(approve),
        Scenario(basket, BASKET).times_out(approve, took_effect=False),
    ):
        assert given.play().state == "compensated"


def test_nobody_is_asked_where_the_builder_gives_none() -> None:
    trusted = Basket(customer="trusted", address="here", skus=["a"])
    story = Scenario(basket, trusted).play()
    assert isinstance(story.outcome, Completed)
    assert story.outcome.reply(approve) is None


# -- what went another way


def test_a_story_that_went_another_way_says_what_was_expected_what_happened_and_how_to_play_it_again() -> None:
    story = Scenario(place_order, ORDER).rejects(hold, "too poor").play()
    story.expect("compensated", effects=["reserve", "undo reserve"], reason="too poor")
    with pytest.raises(Unexpected) as wrong:
        story.expect("completed", effects=["reserve", "hold"], reason="no stock")
    assert str(wrong.value) == WENT_ANOTHER_WAY.strip()


def test_the_line_that_plays_it_again_does() -> None:
    story = Scenario(place_order, ORDER).times_out(hold, took_effect=True).rejects(reserve, "no", code="gone").play()
    again = eval(story.again)  # noqa: S307 - the line is Python on purpose
    assert (again.effects, again.text()) == (story.effects, story.text())
    assert eval(Scenario(simple, "x").play().again).state == "completed"  # noqa: S307 - as above


def test_something_given_that_never_came_to_bear_is_told() -> None:
    with pytest.raises(NeverHappened, match=r"rejects\(ship\) never came to bear"):
        Scenario(place_order, ORDER).rejects(hold).rejects(ship).play()
    with pytest.raises(NeverHappened, match=r"refuses_compensation\(reserve\)"):
        Scenario(place_order, ORDER).refuses_compensation(reserve).play()
    with pytest.raises(NeverHappened, match=r"cancelled_after\(ship\)"):
        Scenario(place_order, ORDER).rejects(hold).cancelled_after(ship).play()


def test_a_scenario_is_a_value() -> None:
    base = Scenario(place_order, ORDER)
    base.rejects(hold)
    assert base.play().state == "completed"


# -- mistakes


def test_a_step_of_another_saga_is_refused() -> None:
    with pytest.raises(AmendsError, match="place-order v1 has no step first; it has reserve, hold, capture, ship"):
        Scenario(place_order, ORDER).rejects(first)  # type: ignore[arg-type]  # the mistake


def test_a_reply_of_another_type_is_refused() -> None:
    with pytest.raises(AmendsError):
        Scenario(place_order, ORDER).replies(hold, {"id": 3})  # type: ignore[misc]  # the mistake


def test_a_saga_with_mistakes_is_not_played() -> None:
    with pytest.raises(DefinitionInvalid):
        Scenario(Saga("empty", str), "x")


# -- paths


def test_a_path_tells_its_story_and_goes_on_as_it_should() -> None:
    story = Scenario(place_order, ORDER).story("r>.r<.h>.h!.cancel.P.-h>")
    assert story.effects[:3] == ["reserve", "hold", "undo hold"]
    assert story.state == "compensated"
    assert story.again == 'Scenario(place_order, ORDER).story("r>.r<.h>.h!.cancel.P.-h>")'


def test_a_path_that_cannot_happen_says_where_and_what_can() -> None:
    with pytest.raises(BadPath, match=r"move 2, -r>, can't happen there. What can: "):
        Scenario(place_order, ORDER).story("r>.-r>")
    with pytest.raises(BadPath, match=r"'x' is none of its steps: reserve, hold, capture, ship"):
        Scenario(place_order, ORDER).story("x>")


def test_a_sequence_diagram_shows_who_sent_what_to_whom() -> None:
    told = Scenario(simple, "x").rejects(second).play().mermaid().split("\n")
    assert told[0] == "sequenceDiagram"
    assert "    owner1->>inventory: first" in told
    assert "    Note over inventory: effect: undo first" in told
