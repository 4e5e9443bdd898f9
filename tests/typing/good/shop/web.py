"""The same runs over HTTP: from code that awaits, and from code that can't."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from amends import Abandoned, AsyncClient, Client, Compensated, Completed, Overloaded, Runs, Stuck, Unfinished

from .sagas import Order, place_order, reserve, ship

blocking = Client("http://amends:8700", token=os.environ.get("AMENDS_TOKEN"))


async def take(order: Order, runs: Runs) -> str:
    try:
        run = await runs.start(place_order, order, id=order.id)
    except Overloaded as busy:
        return f"in {busy.retry_after.total_seconds():g} s"
    match await run.outcome(wait=timedelta(seconds=2)):
        case Completed() as done:
            tracking: str = done.reply(ship).tracking
            return tracking
        case Compensated(code=code):
            return code or "declined"
        case Stuck() | Unfinished():
            return "running"
        case Abandoned(by=by):
            return by


async def follow(client: AsyncClient, order: Order) -> list[Mapping[str, Any]]:
    found = [event async for event in client.events(order.id)]
    await client.retry(order.id, step=reserve, reason="the service is back")
    return found


async def main(order: Order) -> str:
    async with AsyncClient("http://amends:8700") as runs:
        await follow(runs, order)
        return await take(order, runs)


def place(order: Order) -> bool:
    id = blocking.start(place_order, order, id=order.id)
    return isinstance(blocking.outcome(id, wait=timedelta(seconds=2)), Completed)
