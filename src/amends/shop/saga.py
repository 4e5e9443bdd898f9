"""The shop's two sagas over the same three services.

`place-order` can be undone to the last step: reserve every line and charge the customer at once, then schedule the
parcel. `hold-order` has a point of no return: money is only held until everything else is sure, capturing it is the
pivot, and shipping afterwards must succeed in the end.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from amends import Call, Policy, Rejected, Retry, Saga
from amends.shop.contract import Charged, DeliveryRoute, Held, Inventory, Payment, Reserved, Shipment, Shipping


@dataclass(frozen=True, slots=True)
class Line:
    """So many units of one product; `cents` is the price of one."""

    sku: str
    quantity: int
    cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a customer wants, and where to. `id` is the run's id too. The address ends with `, <town>`."""

    id: str
    customer: str
    address: str
    lines: list[Line]

    @property
    def cents(self) -> int:
        """What it costs altogether."""
        return sum(line.quantity * line.cents for line in self.lines)


BRISK: Final = Policy(
    timeout=timedelta(seconds=2),
    retry=Retry(first=timedelta(milliseconds=200), cap=timedelta(seconds=2)),
    compensation_retry=Retry(attempts_max=None, first=timedelta(milliseconds=200), cap=timedelta(seconds=2)),
)
"""Services on the same machine answer in milliseconds, so one that hasn't after two seconds won't: a lively
demonstration.
"""

UNTIL_IT_WORKS: Final = Policy(
    timeout=timedelta(seconds=2),
    retry=Retry(attempts_max=None, first=timedelta(milliseconds=200), cap=timedelta(seconds=2)),
)


def one_call_per_line(order: Order) -> dict[str, Call[Reserved]]:
    """Reserve each line by itself, named by its product."""
    if not order.lines:
        raise Rejected("the order has no lines", code="empty-order")
    if len({line.sku for line in order.lines}) < len(order.lines):
        raise Rejected("the order names a product twice", code="line-twice")
    return {line.sku: Inventory.reserve(sku=line.sku, quantity=line.quantity) for line in order.lines}


# -- everything can be undone

place_order = Saga("place-order", Order)


@place_order.compensable(policy=BRISK)
def reserve(order: Order) -> dict[str, Call[Reserved]]:
    """Every line at once; one that isn't in stock turns the order back."""
    return one_call_per_line(order)


@place_order.compensable(policy=BRISK)
def charge(order: Order) -> Call[Charged]:
    """No edge to `reserve`: both run at the same time."""
    return Payment.charge(customer=order.customer, cents=order.cents)


@place_order.compensable(reserve, after=[charge], policy=BRISK)
def schedule(order: Order, reserved: dict[str, Reserved]) -> Call[Shipment]:
    """Once goods and money are there, room with a carrier."""
    return Shipping.schedule(address=order.address, reservations=[each.reservation for each in reserved.values()])


# -- a point of no return

place_held_order = Saga("hold-order", Order)


@place_held_order.neutral(policy=BRISK)
def find_route(order: Order) -> Call[DeliveryRoute]:
    """After the pivot an undeliverable address would come too late."""
    return Shipping.route(address=order.address)


@place_held_order.compensable(policy=BRISK)
def set_aside(order: Order) -> dict[str, Call[Reserved]]:
    """As `reserve`."""
    return one_call_per_line(order)


@place_held_order.compensable(policy=BRISK)
def hold(order: Order) -> Call[Held]:
    """The customer can't spend it elsewhere, and loses nothing if the order turns back."""
    return Payment.hold(customer=order.customer, cents=order.cents)


@place_held_order.pivot(hold, after=[find_route, set_aside], policy=BRISK)
def capture(_order: Order, held: Held) -> Call[Charged]:
    """From here on the order only goes forward."""
    return Payment.capture(hold=held.hold)


@place_held_order.retriable(set_aside, after=[capture], policy=UNTIL_IT_WORKS)
def ship(order: Order, reserved: dict[str, Reserved]) -> Call[Shipment]:
    """On the first day that has room, however late."""
    return Shipping.ship(address=order.address, reservations=[each.reservation for each in reserved.values()])
