"""Sagas for scenarios: an order over three services, and one of every other shape a step may have."""

from dataclasses import dataclass
from datetime import timedelta

from amends import Call, Participant, Policy, Retry, Saga, ask, operation, sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveItems:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reservation:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    customer: str
    cents: int


@dataclass(frozen=True, slots=True)
class Hold:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    hold: str


@dataclass(frozen=True, slots=True)
class Receipt:
    number: str
    lines: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    address: str
    reservation: str


@dataclass(frozen=True, slots=True)
class Shipment:
    tracking: str


class Inventory(Participant):
    reserve = operation(ReserveItems, Reservation, compensation="release")
    release = operation(ReserveItems)


class Payments(Participant):
    hold = operation(PlaceHold, Hold, compensation="unhold")
    capture = operation(Capture, Receipt)


class Shipping(Participant):
    schedule = operation(Schedule, Shipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: str
    customer: str
    sku: str
    quantity: int
    cents: int
    address: str


careful = Policy(timeout=timedelta(seconds=10), retry=Retry(attempts_max=5), on_unknown="settle")
place_order = Saga("place-order", Order, version=1)


@place_order.compensable()
def reserve(order: Order) -> Call[Reservation]:
    return Inventory.reserve(sku=order.sku, quantity=order.quantity)


@place_order.compensable(policy=careful)
def hold(order: Order) -> Call[Hold]:
    return Payments.hold(customer=order.customer, cents=order.cents)


@place_order.pivot(hold, after=[reserve])
def capture(order: Order, held: Hold) -> Call[Receipt]:
    return Payments.capture(hold=held.id)


@place_order.retriable(reserve, after=[capture])
def ship(order: Order, reservation: Reservation) -> Call[Shipment]:
    return Shipping.schedule(address=order.address, reservation=reservation.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    customer: str
    address: str
    skus: list[str]


@dataclass(frozen=True, slots=True)
class Approval:
    by: str


basket = Saga("basket", Basket)


@basket.compensable()
def reserve_all(order: Basket) -> dict[str, Call[Reservation]]:
    return {sku: Inventory.reserve(sku=sku, quantity=1) for sku in order.skus}


@basket.neutral(after=[reserve_all])
def approve(order: Basket) -> Call[Approval] | None:
    if order.customer == "trusted":
        return None
    return ask(Approval, f"{order.customer} orders", within=timedelta(days=2))


@basket.neutral(after=[approve])
def cooling_off(order: Basket) -> Call[None]:
    return sleep(timedelta(hours=24))


@basket.pivot(reserve_all, after=[cooling_off])
async def book(order: Basket, reserved: dict[str, Reservation]) -> int:
    return len(reserved)


@basket.retriable(reserve_all, after=[book])
def ship_all(order: Basket, reserved: dict[str, Reservation]) -> list[Call[Shipment]]:
    return [Shipping.schedule(address=order.address, reservation=each.id) for each in reserved.values()]


simple = Saga("simple", str)


@simple.compensable()
def first(name: str) -> Call[Reservation]:
    return Inventory.reserve(sku=name, quantity=1)


@simple.pivot(first)
def second(name: str, made: Reservation) -> Call[Receipt]:
    return Payments.capture(hold=made.id)
