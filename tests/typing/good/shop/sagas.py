"""Four services: what can be undone, the point of no return, what must succeed in the end, and who is told."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from amends import Call, Compensated, Completed, Ended, Policy, Redacted, Retry, Saga

from .contract import Hold, Inventory, Mail, Payments, Receipt, Reservation, ReserveItems, Shipment, Shipping


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: str
    customer: str
    sku: str
    quantity: int
    cents: int
    address: str
    card: Annotated[str, Redacted]


careful = Policy(timeout=timedelta(seconds=10), retry=Retry(attempts_max=5), on_unknown="settle")
patient = Policy(compensation_retry=Retry(attempts_max=None, give_up_after=timedelta(days=2)))
place_order = Saga("place-order", Order, version=1)


@place_order.compensable(policy=careful)
def reserve(order: Order) -> Call[Reservation]:
    return Inventory.reserve.of(ReserveItems(sku=order.sku, quantity=order.quantity))


@place_order.compensable(policy=careful)
def hold(order: Order) -> Call[Hold]:
    return Payments.hold(customer=order.customer, cents=order.cents, card=order.card)


@place_order.pivot(hold, after=[reserve], policy=patient)
def capture(order: Order, held: Hold) -> Call[Receipt]:
    return Payments.capture(hold=held.id)


@place_order.retriable(reserve, after=[capture])
def ship(order: Order, reservation: Reservation) -> Call[Shipment]:
    return Shipping.schedule(address=order.address, reservation=reservation.id)


@place_order.notice
def tell(order: Order, end: Ended) -> Call[None] | None:
    match end:
        case Completed():
            return Mail.tell(order=order.id, text=f"On its way: {end.reply(ship).tracking}")
        case Compensated(code="card-declined"):
            return Mail.tell(order=order.id, text="Your card was declined. Nothing was charged.")
        case _:
            return None
