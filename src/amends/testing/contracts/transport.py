"""What every transport promises, as tests: subclass `TransportContract`, say how to serve, and pytest does the rest.

The suite speaks to a participant that is a plain function; how a call gets to it is the transport's business.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from amends.core.run.answers import CallResponse, Cause, Lost
from amends.core.words.keys import Phase
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.core.words.retry import Guard, Kind
from amends.ports.transport import Outgoing, Transport
from amends.wire.call import call_headers


@dataclass(frozen=True, slots=True)
class ScriptedResponse:
    """What the participant answers; header names are lower-case."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"saga-outcome": "succeeded"})
    body: bytes = b"{}"


Handle: TypeAlias = Callable[[Mapping[str, str], str, bytes], Awaitable[ScriptedResponse]]
"""Headers (names in lower case), operation and body of one call; gives its answer."""

CALL: Final = Outgoing(
    key="order-42:reserve:action",
    run="order-42",
    step="reserve",
    item="",
    phase=Phase.ACTION,
    participant="inventory",
    operation="reserve",
    guard=Guard.BARRIER,
    kind=Kind.COMPENSABLE,
    body=b'{"sku":"sku-1"}',
    attempt=1,
    epoch=12,
    since=1_772_420_400_000_250,
    timeout_seconds=5.0,
)


class TransportContract(ABC):
    """Subclass it in a test module, named `Test...`."""

    @abstractmethod
    def serve(self, handle: Handle) -> AbstractAsyncContextManager[Transport]:
        """A transport to a participant that answers with this function; closed on leaving."""

    async def test_a_call_arrives_as_it_was_sent(self) -> None:
        """Operation, body and every header of the contract."""
        seen: list[tuple[Mapping[str, str], str, bytes]] = []

        async def handle(headers: Mapping[str, str], operation: str, body: bytes) -> ScriptedResponse:
            seen.append((headers, operation, body))
            return ScriptedResponse()

        call = replace(CALL, item="sku%2F1", key="order-42:reserve/sku%2F1:action", callback="https://o.example/c")
        async with self.serve(handle) as transport:
            await transport.send(call)
        [(headers, operation, body)] = seen
        assert (operation, body) == ("reserve", call.body)
        assert call_headers(call).items() <= headers.items()

    async def test_an_answer_comes_back_whole(self) -> None:
        """Status, headers under lower-case names, body; whatever the status is: a transport judges nothing."""
        for status in (200, 202, 302, 404, 409, 500, 503):
            said = ScriptedResponse(status, {"saga-outcome": "rejected", "retry-after": "3"}, b'{"code":"x"}')

            async def handle(*_: object, said: ScriptedResponse = said) -> ScriptedResponse:
                return said

            async with self.serve(handle) as transport:
                came = await transport.send(CALL)
            assert isinstance(came, CallResponse)
            assert (came.status, came.body) == (status, said.body)
            assert came.headers["saga-outcome"] == "rejected"
            assert came.headers["retry-after"] == "3"
            assert not came.repeated
            assert CALL.operation in came.url

    async def test_a_slow_participant_may_have_acted(self) -> None:
        """A time-out is `Lost`, and the next call goes through."""
        asked = 0

        async def handle(*_: object) -> ScriptedResponse:
            nonlocal asked
            asked += 1
            if asked == 1:
                await asyncio.Event().wait()
            return ScriptedResponse()

        async with self.serve(handle) as transport:
            came = await transport.send(replace(CALL, timeout_seconds=0.05))
            assert isinstance(came, Lost)
            assert came.cause is Cause.TIMED_OUT
            assert asked == 1
            assert isinstance(await transport.send(CALL), CallResponse)

    async def test_a_cancelled_call_harms_no_other(self) -> None:
        """Cancelling is the only thing that `send` raises."""
        arrived = asyncio.Event()

        async def handle(*_: object) -> ScriptedResponse:
            if not arrived.is_set():
                arrived.set()
                await asyncio.Event().wait()
            return ScriptedResponse()

        async with self.serve(handle) as transport:
            task = asyncio.create_task(transport.send(CALL))
            await arrived.wait()
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError)
            assert isinstance(await transport.send(CALL), CallResponse)

    async def test_a_huge_answer_is_taken_no_further_than_the_limit(self) -> None:
        """One byte more than the limit says that it was too large."""

        async def handle(*_: object) -> ScriptedResponse:
            return ScriptedResponse(body=b"1" * (2 * REPLY_BYTES_MAX))

        async with self.serve(handle) as transport:
            came = await transport.send(CALL)
        assert isinstance(came, CallResponse)
        assert len(came.body) == REPLY_BYTES_MAX + 1

    async def test_a_participant_that_breaks_gives_no_success(self) -> None:
        """It may have acted before it broke."""

        async def handle(*_: object) -> ScriptedResponse:
            msg = "broken on purpose"
            raise OSError(msg)

        async with self.serve(handle) as transport:
            came = await transport.send(CALL)
        assert isinstance(came, Lost) or (isinstance(came, CallResponse) and came.status >= 500)

    async def test_calls_at_once_get_their_own_answers(self) -> None:
        """Nothing is mixed up."""

        async def handle(_headers: Mapping[str, str], _operation: str, body: bytes) -> ScriptedResponse:
            return ScriptedResponse(body=body)

        async with self.serve(handle) as transport:
            bodies = [b"%d" % number for number in range(50)]
            came = await asyncio.gather(*(transport.send(replace(CALL, body=body)) for body in bodies))
        assert [each.body for each in came if isinstance(each, CallResponse)] == bodies
