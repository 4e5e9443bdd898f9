"""Many calls, perhaps one, a question to a person, a wait; and steps that read what these give."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from amends import Call, CompensableStep, Orchestrator, Rejected, Runs, Saga, Step, ask, sleep, sleep_until

from .contract import Hold, Inventory, Payments, Receipt, Reservation, Shipment, Shipping


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    customer: str
    card: str
    address: str
    cents: int
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Approval:
    by: str


basket = Saga("basket", Basket)


@basket.compensable()
def reserve(order: Basket) -> dict[str, Call[Reservation]]:
    if not order.lines:
        raise Rejected("the basket is empty")
    return {line.sku: Inventory.reserve(sku=line.sku, quantity=line.quantity) for line in order.lines}


@basket.neutral(after=[reserve])
def approve(order: Basket) -> Call[Approval] | None:
    if order.cents < 1_000_000:
        return None
    return ask(Approval, f"{order.customer} orders for {order.cents / 100:.2f}", within=timedelta(days=2))


@basket.compensable(approve)
def hold(order: Basket, approved: Approval | None) -> Call[Hold]:
    return Payments.hold(customer=order.customer, cents=order.cents, card=order.card)


@hold.compensation
def unhold(order: Basket, held: Hold | None) -> Call[Receipt]:
    return Payments.capture(hold=held.id if held is not None else "")


@basket.neutral(after=[hold])
def cooling_off(order: Basket) -> Call[None]:
    return sleep(timedelta(hours=24))


@basket.neutral(after=[hold])
def opening(order: Basket) -> Call[None]:
    return sleep_until(datetime(2030, 1, 1, tzinfo=UTC))


@basket.pivot(hold, after=[cooling_off])
def capture(order: Basket, held: Hold) -> Call[Receipt]:
    return Payments.capture(hold=held.id)


@basket.retriable(reserve, after=[capture])
def ship(order: Basket, reserved: dict[str, Reservation]) -> list[Call[Shipment]]:
    return [Shipping.schedule(address=order.address, reservation=each.id) for each in reserved.values()]


@basket.retriable(ship, reserve, hold, capture, cooling_off, approve)
async def archive(  # noqa: PLR0917 - six replies are the most that a step reads
    order: Basket,
    shipped: list[Shipment],
    reserved: dict[str, Reservation],
    held: Hold,
    receipt: Receipt,
    cooled: None,
    approved: Approval | None,
) -> int:
    return len(shipped) + len(reserved)


many: Step[Basket, dict[str, Reservation]] = reserve
perhaps: Step[Basket, Approval | None] = approve
one: CompensableStep[Basket, Hold] = hold
listed: Step[Basket, list[Shipment]] = ship


async def approved_by(runs: Runs, run: str) -> None:
    await runs.answer(run, approve, Approval("bo"))
    await runs.decline(run, approve, "too much")


async def steer(runs: Orchestrator, run: str) -> None:
    await runs.resolve(run, hold, "succeeded", reply=Hold("h-1"), reason="seen in the books")
    await runs.skip(run, ship, item="0", reason="sent by hand")
    await runs.compensate(run, reason="give up")
    await runs.abandon(run, reason="give up for good")
