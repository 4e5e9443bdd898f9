"""Starting a run and reading how it ended; a `match` over the outcomes is closed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import assert_never

from amends import (
    Abandoned,
    Compensated,
    Completed,
    Orchestrator,
    Outcome,
    PastPivot,
    Refused,
    Run,
    RunExists,
    Runs,
    Stuck,
    Unfinished,
)

from .contract import Inventory, Mail, Payments, Shipping
from .sagas import Order, place_order, reserve, ship

ROUTES = [
    Inventory.at("http://localhost:8001/saga"),
    Payments.at("http://localhost:8002/saga", headers={"Authorization": "Bearer x"}, at_once=20),
    Shipping.at("http://localhost:8003/saga"),
    Mail.at("http://localhost:8004"),
]


def told(outcome: Outcome) -> str:
    match outcome:
        case Completed() as done:
            tracking: str = done.reply(ship).tracking
            return f"on its way: {tracking}"
        case Compensated(reason=reason) | Abandoned(reason=reason):
            return f"not this time: {reason}"
        case Stuck(step=step):
            return f"we are looking at {step}"
        case Unfinished(current=current):
            return f"still working on {', '.join(current)}"
        case _:
            assert_never(outcome)


async def place(runs: Runs, order: Order) -> Run:
    """Code that starts runs takes `Runs`, and doesn't care who is behind it."""
    try:
        return await runs.start(
            place_order, order, id=order.id, tags={"customer": order.customer}, deadline=timedelta(minutes=15)
        )
    except RunExists:
        return await runs.start(place_order, order, deadline=datetime(2030, 1, 1, tzinfo=UTC))


async def change_mind(runs: Runs, order: Order) -> bool:
    try:
        await runs.cancel(order.id, reason="changed my mind")
    except PastPivot:
        return False
    return True


async def main(order: Order) -> str:
    async with Orchestrator([place_order], log="sqlite:///orders.db", routes=ROUTES) as runs:
        run = await place(runs, order)
        await change_mind(runs, order)
        try:
            await runs.retry(run.id, step=reserve, reason="the service is back")
        except Refused as no:
            print(no.problem)  # noqa: T201 - as the tutorial has it
        return told(await run.outcome(wait=timedelta(seconds=2)))


if __name__ == "__main__":
    an_order = Order(id="o-42", customer="ann", sku="sku-1", quantity=1, cents=4200, address="x", card="tok_1")
    print(asyncio.run(main(an_order)))  # noqa: T201 - as above
