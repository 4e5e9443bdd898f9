"""What services and sagas share."""

from dataclasses import dataclass
from typing import Annotated

from amends import Participant, Redacted, operation


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
    card: Annotated[str, Redacted]


@dataclass(frozen=True, slots=True)
class Hold:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    hold: str


@dataclass(frozen=True, slots=True)
class Receipt:
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    address: str
    reservation: str


@dataclass(frozen=True, slots=True)
class Shipment:
    tracking: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TellCustomer:
    order: str
    text: str


class Inventory(Participant):
    reserve = operation(ReserveItems, Reservation, compensation="release")


class Payments(Participant):
    hold = operation(PlaceHold, Hold, compensation="unhold")
    capture = operation(Capture, Receipt)


class Shipping(Participant, name="parcels"):
    schedule = operation(Schedule, Shipment)
    cancel = operation(Schedule, name="cancel-parcel")


class Mail(Participant):
    tell = operation(TellCustomer)
