"""A participant that bears only so many calls a second gets no more, and every one of them."""

import asyncio
from dataclasses import replace

from amends.core.run.answers import CallResponse
from amends.ports.transport import Outgoing
from amends.testing.contracts.transport import CALL
from amends.transports.paced import Paced
from tests.fast.engine.support import seconds, virtually


class Noting:
    def __init__(self) -> None:
        self.sent: list[float] = []
        self.closed = False

    async def send(self, call: Outgoing) -> CallResponse:
        self.sent.append(seconds())
        return CallResponse(200, {}, b"", "")

    async def close(self) -> None:
        self.closed = True


def call(number: int) -> Outgoing:
    return replace(CALL, key=f"o-{number}:reserve:action", run=f"o-{number}")


def test_calls_are_evenly_spaced_and_none_is_lost() -> None:
    async def test() -> None:
        inner = Noting()
        paced = Paced(inner, per_second=4)
        began = seconds()
        await asyncio.gather(*(paced.send(call(number)) for number in range(5)))
        assert [round(each - began, 6) for each in inner.sent] == [0, 0.25, 0.5, 0.75, 1.0]
        await asyncio.sleep(10)
        later = seconds()
        await paced.send(call(5))
        assert inner.sent[-1] == later, "what wasn't used is not owed, and nobody waits for it"
        await paced.close()
        assert inner.closed

    virtually(test)


def test_a_call_that_is_given_up_while_it_waits_is_never_sent() -> None:
    async def test() -> None:
        inner = Noting()
        paced = Paced(inner, per_second=1)
        await paced.send(call(0))
        waiting = asyncio.create_task(paced.send(call(1)))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert len(inner.sent) == 1

    virtually(test)
