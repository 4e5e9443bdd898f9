from amends import Completed
from amends.testing import BrokenPromise, FaultKind, Guard, Scenario

from .contract import Hold, Inventory, Reservation, ReserveItems
from .sagas import Order, capture, hold, place_order, reserve

ORDER = Order(id="order-1", customer="ann", sku="sku-1", quantity=2, cents=4200, address="here", card="tok_1")


def test_declined_card_releases_the_stock() -> None:
    story = Scenario(place_order, ORDER).rejects(hold, "declined", code="card-declined").play()
    assert story.state == "compensated"
    assert story.effects == ["reserve", "undo reserve"]
    assert story.sent(Inventory.reserve) == [ReserveItems(sku="sku-1", quantity=2)]


def test_lost_answer_of_a_hold_that_took_effect_is_undone() -> None:
    story = Scenario(place_order, ORDER).times_out(hold, took_effect=True).rejects(reserve).play()
    assert "undo hold" in story.effects


def test_every_fault_keeps_every_promise() -> None:
    report = Scenario(place_order, ORDER).replies(hold, Hold("h-1")).explore(faults_max=2)
    assert report.worlds > 1_000
    assert set(report.ends) == {"completed", "compensated", "stuck"}


def test_the_pivot_is_where_we_think_it_is() -> None:
    story = Scenario(place_order, ORDER).cancelled_after(capture).play()
    assert story.state == "completed"


def made() -> Reservation | None:
    outcome = Scenario(place_order).play().expect("completed", effects=["reserve"], reason="all").outcome
    return outcome.reply(reserve) if isinstance(outcome, Completed) else None


def broken() -> str:
    try:
        Scenario(place_order).explore(faults_max=1, crashes_max=0, kinds=[FaultKind.LOST], services=Guard.ONCE)
    except BrokenPromise as found:
        return f"{found.promise} {found.path} {found.mermaid}"
    return Scenario(place_order, ORDER).story("h>.h<").mermaid()
