"""A workshop: the real engine with your real services, in one process, and a clock that jumps.

```python
async with workshop([place_order], [Inventory.at(app), Payments.at(service), Shipping.at("made-up")]) as shop:
    shop.faults.lose_reply(Inventory.reserve)
    run = await shop.runs.start(place_order, order)
    assert isinstance(await run.outcome(), Completed)
```

Services run as they are, on this event loop and their own threads, with their own databases. Only the orchestrator's
time is virtual: it stands while anything is being done and passes when a test says so (`clock.jump`) or waits for an
outcome. Faults are asked for by name, and at the end each must have happened.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from amends.codecs.json import JsonCodec
from amends.core.saga.operation import Operation, Route
from amends.core.saga.saga import Saga
from amends.core.words.errors import NoRoute
from amends.core.words.keys import Phase
from amends.orchestrator import load_definitions, open_route
from amends.ports.transport import Transport
from amends.testing.made_up import MadeUp, MadeUpValues
from amends.testing.workshop.clock import Clock, VirtualTime
from amends.testing.workshop.conductor import Activity, Conductor
from amends.testing.workshop.faults import Faults
from amends.testing.workshop.host import Host, Kept
from amends.testing.workshop.runs import WorkshopRuns
from amends.testing.workshop.sent import Sent
from amends.transports.in_process import ServiceTransport

Q = TypeVar("Q")

MADE_UP: Final = "made-up"


class Workshop:
    """What a test works with. `calls` is everything that was sent, in order."""

    def __init__(self, runs: WorkshopRuns, clock: Clock, faults: Faults, calls: Sequence[Sent]) -> None:
        self.runs = runs
        self.clock = clock
        self.faults = faults
        self.calls = calls
        self._codec = JsonCodec()

    def sent(self, operation: Operation[..., Q, Any], /) -> list[Q]:
        """The requests of every action call of this operation, repeats too, in order."""
        read: Callable[[bytes], Q] = self._codec.decoder(operation.request_type)
        place = (operation.participant, operation.name, Phase.ACTION.value)
        return [read(each.body) for each in self.calls if (each.participant, each.operation, each.phase) == place]


class WorkshopContext(AbstractAsyncContextManager[Workshop]):
    """A workshop that isn't open yet; `workshop` makes one."""

    def __init__(
        self,
        sagas: Iterable[Saga[Any]],
        routes: Iterable[Route],
        *,
        log: str,
        starts: datetime | None,
        faults_must_fire: bool,
    ) -> None:
        self._sagas = list(sagas)
        self._routes = list(routes)
        self._log = log
        self._starts = starts
        self._faults_must_fire = faults_must_fire
        self._kept: list[Kept] = []
        self._conductor: Conductor | None = None
        self._host: Host | None = None
        self._workshop: Workshop | None = None

    async def __aenter__(self) -> Workshop:
        """Open it: `DefinitionInvalid` or `NoRoute`, as an orchestrator."""
        definitions = load_definitions(self._sagas)
        time = VirtualTime(self._starts or datetime.now(UTC))
        activity = Activity()
        calls: list[Sent] = []
        steps = {name for definition in definitions for name in definition.steps}
        faults = Faults(time, steps, calls)
        codec = JsonCodec()
        values = MadeUpValues(codec)
        routes: list[Route] = []
        for route in self._routes:
            if route.where == MADE_UP:
                way: Transport = ServiceTransport(MadeUp(route.participant, definitions, codec, values))
            elif isinstance(route.where, str) and ":" not in route.where:
                msg = f"{route.participant}: {route.where!r} is neither a URL nor {MADE_UP!r}."
                raise NoRoute(msg)
            else:
                way = open_route(route)
            kept = Kept(way)
            self._kept.append(kept)
            routes.append(replace(route, where=kept))
        conductor = self._conductor = Conductor(activity)
        host = self._host = Host(self._sagas, routes, self._log, time, faults, calls, activity, conductor)
        try:
            await host.start()
        except BaseException:
            await self._close()
            raise
        clock = Clock(time, conductor.settle)
        self._workshop = Workshop(WorkshopRuns(host, clock), clock, faults, calls)
        return self._workshop

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what is under way, close everything, and see that every fault fired, unless the test failed anyway."""
        try:
            if kind is None and self._conductor is not None:
                await self._conductor.settle()
        finally:
            await self._close()
        if kind is None and self._faults_must_fire and self._workshop is not None:
            self._workshop.faults.assert_all_fired()

    async def _close(self) -> None:
        if self._conductor is not None:
            await self._conductor.close()
        if self._host is not None:
            await self._host.close()
        for each in self._kept:
            await each.close_for_good()


def workshop(
    sagas: Iterable[Saga[Any]],
    routes: Iterable[Route] = (),
    *,
    log: str = "memory:",
    starts: datetime | None = None,
    faults_must_fire: bool = True,
) -> WorkshopContext:
    """A workshop for these sagas; enter it with `async with`, or see `blocking_workshop`.

    A route points at a `Service`, an ASGI application, a URL, or `"made-up"`: a participant that answers everything
    with a made-up reply of the right type, behind a real barrier. `starts`: what time it is when it opens (default:
    the machine's). `faults_must_fire`: leaving it raises `FaultNeverFired` where a fault didn't.
    """
    return WorkshopContext(sagas, routes, log=log, starts=starts, faults_must_fire=faults_must_fire)


class OpenWorkshop(Protocol):
    """The type of the fixture `saga_workshop`."""

    def __call__(
        self,
        sagas: Iterable[Saga[Any]],
        routes: Iterable[Route] = (),
        *,
        log: str = "memory:",
        starts: datetime | None = None,
        faults_must_fire: bool = True,
    ) -> Awaitable[Workshop]:
        """Open a workshop until the test's end; takes what `workshop` takes."""
        ...
