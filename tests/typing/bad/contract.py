"""What the samples share: all of it right."""

from dataclasses import dataclass

from amends import Call, Participant, Saga, operation


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


@dataclass(frozen=True, slots=True)
class Hold:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    hold: str


@dataclass(frozen=True, slots=True)
class Receipt:
    number: str


class Inventory(Participant):
    reserve = operation(ReserveItems, Reservation, compensation="release")


class Payments(Participant):
    hold = operation(PlaceHold, Hold, compensation="unhold")
    capture = operation(Capture, Receipt)


class Mail(Participant):
    tell = operation(Capture)


orders = Saga("orders", str)
others = Saga("others", int)


@orders.compensable()
def reserve(order: str) -> Call[Reservation]:
    return Inventory.reserve(sku=order, quantity=1)


@orders.compensable()
def gift(order: str) -> Call[Hold] | None:
    return None


@orders.compensable()
def lines(order: str) -> dict[str, Call[Reservation]]:
    return {order: Inventory.reserve(sku=order, quantity=1)}


@orders.pivot(reserve)
def pay(order: str, reservation: Reservation) -> Call[Receipt]:
    return Payments.capture(hold=reservation.id)


@others.compensable()
def elsewhere(number: int) -> Call[Reservation]:
    return Inventory.reserve(sku="x", quantity=number)
