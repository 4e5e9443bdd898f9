"""One worker's way to the shop, on which calls wait or get lost, and on which it is seen what was sent and heard."""

import asyncio
from collections.abc import Callable

from amends.core.run.answers import Came, Cause, Lost
from amends.orchestrator import Orchestrator
from amends.ports.transport import Outgoing, Transport
from tests.real.postgres.shop import Shop, order


class Way:
    """One worker's way to the shop: calls wait at it, before they arrive or when they are answered, or get lost."""

    def __init__(self) -> None:
        self.lost: Callable[[Outgoing], bool] = lambda _: False
        self.arrives: dict[str, asyncio.Event] = {}
        self.answered: dict[str, asyncio.Event] = {}
        self.sent: list[Outgoing] = []
        self.heard: list[tuple[str, Came]] = []

    def around(self, transport: Transport) -> Transport:
        return _Through(self, transport)

    def heard_of(self, key: str) -> list[Came]:
        return [came for heard, came in self.heard if heard == key]


class _Through:
    """`ports.transport.Transport`."""

    def __init__(self, way: Way, transport: Transport) -> None:
        self._way = way
        self._transport = transport

    async def send(self, call: Outgoing) -> Came:
        way = self._way
        way.sent.append(call)
        if way.lost(call):
            came: Came = Lost(Cause.TIMED_OUT, "it got lost on its way")
        else:
            if call.key in way.arrives:
                await way.arrives[call.key].wait()
            came = await self._transport.send(call)
            if call.key in way.answered:
                await way.answered[call.key].wait()
        way.heard.append((call.key, came))
        return came

    async def close(self) -> None:
        await self._transport.close()


def worker(shop: Shop, url: str, way: Way) -> Orchestrator:
    return Orchestrator([order], log=f"{url}?lease_seconds=600", routes=shop.routes, around=way.around)
