"""Customers who place orders over HTTP and wait for them, as a real client does.

An order has its id before it is sent. Whatever happens to the answer, a lost connection, a restart, an overloaded
server, the same order is sent again under the same id: starting twice is starting once. Then they wait with `?wait=`
until it has ended, and ask again when that breaks off.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import aiohttp
import msgspec

from amends.shop.saga import Order, place_held_order, place_order

HOLD_EVERY: Final = 5
"""One order in so many goes by way of `hold-order`."""

WAIT_SECONDS: Final = 10
"""How long one question waits at the server for the end of an order."""

POST_SECONDS: Final = 10
PAUSE_SECONDS: Final = 0.2
"""Before the same is tried again."""

OVER: Final = frozenset({"completed", "compensated", "abandoned", "stuck"})


class Customers:
    """So many at a time, until all orders have ended. What they saw can be read while they are at it."""

    def __init__(self, url: str, orders: Iterable[Order], concurrency: int) -> None:
        self.url = url
        self.orders = list(orders)
        self.acknowledged: list[str] = []
        self.seen: Counter[str] = Counter()
        self.asked_again = 0
        self.refusals: list[str] = []
        self.done = False
        self._concurrency = concurrency
        self._marks: list[tuple[int, asyncio.Event]] = []

    async def run(self) -> None:
        """Place all orders and see them end."""
        left = enumerate(self.orders)
        timeout = aiohttp.ClientTimeout(total=POST_SECONDS + WAIT_SECONDS)
        async with (
            aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http,
            asyncio.TaskGroup() as customers,
        ):
            for _ in range(min(self._concurrency, len(self.orders))):
                customers.create_task(self._customer(left, http))
        self.done = True
        self._look_at_marks()

    async def reached(self, acknowledged: int) -> None:
        """Wait until so many orders have been acknowledged, or none will be any more."""
        if len(self.acknowledged) < acknowledged and not self.done:
            event = asyncio.Event()
            self._marks.append((acknowledged, event))
            await event.wait()

    async def _customer(self, left: Iterator[tuple[int, Order]], http: aiohttp.ClientSession) -> None:
        for number, order in left:
            if await self._place(number, order, http):
                self.acknowledged.append(order.id)
                self._look_at_marks()
                self.seen[await self._end_of(order, http)] += 1

    def _look_at_marks(self) -> None:
        for mark, event in self._marks:
            if self.done or len(self.acknowledged) >= mark:
                event.set()

    async def _place(self, number: int, order: Order, http: aiohttp.ClientSession) -> bool:
        saga = saga_of(number)
        body = msgspec.json.encode({"saga": saga, "id": order.id, "input": order, "tags": {"customer": order.customer}})
        headers = {"Content-Type": "application/json"}
        while True:
            try:
                async with http.post("/v1/runs", data=body, headers=headers) as answer:
                    said = await answer.text()
                    if answer.status in {200, 201}:
                        return True
                    if answer.status < 500 and answer.status != 429:  # asking again won't help
                        self.refusals.append(f"{order.id} was refused: {answer.status} {said[:500]}")
                        return False
            except (aiohttp.ClientError, TimeoutError):
                pass  # it is down, or its answer got lost: the same again under the same id
            self.asked_again += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _end_of(self, order: Order, http: aiohttp.ClientSession) -> str:
        while True:
            try:
                async with http.get(f"/v1/runs/{order.id}", params={"wait": WAIT_SECONDS}) as answer:
                    if answer.status == 404:
                        return "lost"
                    run: Any = msgspec.json.decode(await answer.read()) if answer.status == 200 else {}
                    if run.get("state") in OVER:
                        return str(run["state"])
                    if answer.status == 200:
                        continue
            except (aiohttp.ClientError, TimeoutError):
                pass  # as above
            self.asked_again += 1
            await asyncio.sleep(PAUSE_SECONDS)


def saga_of(number: int) -> str:
    """By which saga the order with this number is placed."""
    return place_held_order.name if number % HOLD_EVERY == HOLD_EVERY - 1 else place_order.name
