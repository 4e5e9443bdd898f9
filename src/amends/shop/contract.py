"""What the shop's services offer: the only module that services and sagas share.

Three participants. Inventory sets stock aside, payment moves money, shipping books room with carriers. Money is whole
cents, days are ISO dates. Both sagas use the same operations where they need the same thing.
"""

from dataclasses import dataclass

from amends import Participant, operation

# -- inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveItems:
    """Set units of one product aside. Said no to: `unknown-sku`, `bad-quantity`, `out-of-stock`."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Units are set aside under this number."""

    reservation: int
    sku: str
    quantity: int


class Inventory(Participant):
    """Stock per product."""

    reserve = operation(ReserveItems, Reserved, compensation="release")


# -- payment


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeMoney:
    """Take, or hold back, money of a customer. Said no to: `unknown-customer`, `bad-amount`, `insufficient-funds`."""

    customer: str
    cents: int


@dataclass(frozen=True, slots=True)
class Charged:
    """The money is the shop's."""

    charge: int
    cents: int


@dataclass(frozen=True, slots=True)
class Held:
    """The money is out of the customer's reach, but not the shop's yet."""

    hold: int
    cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHold:
    """Make held money the shop's. Said no to: `no-such-hold`, `not-held`."""

    hold: int


class Payment(Participant):
    """Customers' accounts. `charge` takes money at once; `hold` and `capture` take it in two moves."""

    charge = operation(TakeMoney, Charged, compensation="refund")
    hold = operation(TakeMoney, Held, compensation="unhold")
    capture = operation(CaptureHold, Charged)


# -- shipping


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRoute:
    """Who would deliver to this address? Said no to: `undeliverable`."""

    address: str


@dataclass(frozen=True, slots=True)
class DeliveryRoute:
    """The carrier that serves the address."""

    carrier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendParcel:
    """Book room for a parcel holding these reservations. Said no to: `undeliverable`, `no-capacity`."""

    address: str
    reservations: list[int]


@dataclass(frozen=True, slots=True)
class Shipment:
    """A place with a carrier on a day."""

    tracking: int
    carrier: str
    day: str


class Shipping(Participant):
    """Carriers and their days. `schedule` keeps to the days on sale; `ship` opens a further day where all are full."""

    route = operation(AskRoute, DeliveryRoute)
    schedule = operation(SendParcel, Shipment, compensation="cancel")
    ship = operation(SendParcel, Shipment)
