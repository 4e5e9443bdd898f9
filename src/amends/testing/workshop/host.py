"""The orchestrator of a workshop: the real one, which may be killed at any moment and starts again on the same log.

What outlives it: the log's content, the services and the requests that are on their way. What dies with it: everything
else, at once, without the grace that closing would give it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from amends.core.run.answers import Came, Cause, Lost, NotSent
from amends.core.saga.operation import Route
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator, open_log
from amends.ports.log import TransactionLog
from amends.ports.transport import Outgoing, Transport
from amends.testing.workshop.clock import VirtualTime
from amends.testing.workshop.conductor import Activity, CallInTransit, Conductor
from amends.testing.workshop.faults import Fate, Faults
from amends.testing.workshop.sent import Sent, sent
from amends.testing.workshop.watched_log import Mortal, Point, WatchedLog
from amends.transports.in_process import LocalTransport

R = TypeVar("R")

DEATHS_MAX: Final = 100
"""How often one question is asked again because the orchestrator that was asked had died."""


@dataclass(eq=False, slots=True)
class OrchestratorLife:
    """One orchestrator from its start to its death or the workshop's end."""

    mortal: Mortal
    orchestrator: Orchestrator


class Kept:
    """A way to a participant that belongs to the workshop: an orchestrator that goes doesn't close it."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, call: Outgoing) -> Came:
        """Pass it on."""
        return await self._inner.send(call)

    async def close(self) -> None:
        """Left to `close_for_good`."""

    async def close_for_good(self) -> None:
        """Let go of it at the workshop's end."""
        await self._inner.close()


class Host:
    """Keeps one orchestrator alive; `ask` puts a question to whichever lives."""

    def __init__(  # noqa: PLR0917 - what a workshop is made of
        self,
        sagas: Sequence[Saga[Any]],
        routes: Sequence[Route],
        log: str,
        time: VirtualTime,
        faults: Faults,
        calls: list[Sent],
        activity: Activity,
        conductor: Conductor,
    ) -> None:
        self.time = time
        self.faults = faults
        self.calls = calls
        self.conductor = conductor
        self._sagas = sagas
        self._routes = routes
        self._log = log
        self._activity = activity
        self._store = MemoryStore()
        self._life: OrchestratorLife | None = None
        self._up = asyncio.Event()
        self._starting: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    async def start(self) -> None:
        """Open the log and resume what is unfinished in it."""
        mortal = Mortal()
        log = WatchedLog(self._open_log(), mortal, self._activity, partial(self._reached, mortal))
        orchestrator = Orchestrator(
            self._sagas,
            log=log,
            routes=self._routes,
            clock=self.time,
            timers=self.time,
            poll_seconds=math.inf,  # no other process writes to this log: nothing is found by looking again
            around=partial(FaultyTransport, self, mortal),
        )
        await orchestrator.__aenter__()
        self._life = OrchestratorLife(mortal, orchestrator)
        self._up.set()

    def _open_log(self) -> TransactionLog:
        return MemoryLog(self._store) if self._log == "memory:" else open_log(self._log)

    def crash(self, mortal: Mortal) -> None:
        """Kill this orchestrator now, and have another one start; nothing if it is dead already."""
        life = self._life
        if mortal.dead or life is None:
            return
        mortal.dead = True
        self._life = None
        self._up.clear()
        self.conductor.crash()
        task = asyncio.get_running_loop().create_task(self._start_again(life), name="amends-workshop-restart")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_again(self, gone: OrchestratorLife) -> None:
        with self._activity.busy("the orchestrator, starting again"):
            try:
                await gone.orchestrator.close(grace_seconds=0)
                await self.start()
            except Exception as error:  # noqa: BLE001 - this task isn't awaited: the next caller is told
                self._failed = error
                self._up.set()

    async def ask(self, question: Callable[[Orchestrator], Awaitable[R]]) -> R:
        """The answer of the orchestrator that lives; asked again where it dies over the question."""
        for _ in range(DEATHS_MAX):
            await self._up.wait()
            if self._failed is not None:
                raise self._failed
            life = self._life
            if life is None:
                break
            try:
                return await question(life.orchestrator)
            except AmendsError:
                if not life.mortal.dead:
                    raise
        msg = "the workshop is closed: use it as `async with workshop(...) as shop:`"
        raise AmendsError(msg)

    async def close(self) -> None:
        """End the orchestrator. The conductor must have been closed, so that nothing in flight is waited for."""
        await asyncio.gather(*self._starting)
        life, self._life = self._life, None
        self._up.set()
        if life is not None:
            await life.orchestrator.close()

    def _reached(self, mortal: Mortal, point: Point) -> None:
        if not mortal.dead and self.faults.crashes_after(*point):
            self.crash(mortal)


class FaultyTransport:
    """`ports.transport.Transport` between one orchestrator and one participant: here calls meet their faults."""

    def __init__(self, host: Host, mortal: Mortal, through: Transport) -> None:
        self._host = host
        self._mortal = mortal
        self._through = through
        self._in_process = isinstance(through, LocalTransport)

    async def close(self) -> None:
        """Let go of what is the orchestrator's own."""
        await self._through.close()

    async def send(self, call: Outgoing) -> Came:
        """Note the call, decide what becomes of it, and wait for what is said."""
        if self._mortal.dead:
            return await _never()
        host = self._host
        host.calls.append(sent(call, host.time.now()))
        fate = host.faults.fate_of(call)
        if fate.refused is not None:
            fate.refused.fire()
            return NotSent(f"no connection to {call.participant}: {fate.refused.label}")
        delivery = self._delivery(call, fate)
        host.conductor.expect(delivery)
        timed_out = Lost(Cause.TIMED_OUT, f"no answer from {call.participant} within {call.timeout_seconds:g} s")
        timer = host.time.call_later(call.timeout_seconds, partial(delivery.say, timed_out))
        if fate.delay_seconds:
            host.time.call_later(fate.delay_seconds, partial(host.conductor.carry, delivery))
        else:
            host.conductor.carry(delivery)
        if host.faults.crashes_after(call.step, call.item, call.phase, "sent"):
            host.crash(self._mortal)
        try:
            return await delivery.answer
        finally:
            timer.cancel()

    def _delivery(self, call: Outgoing, fate: Fate) -> CallInTransit:
        """The request as it travels; what its participant says may kill the caller, get lost, or be said twice."""

        def arrived(came: Came) -> Came | None:
            for copy in fate.copies:
                copy.fire()
                self._host.conductor.carry_late(self._copy(delivery))
            fate.copies.clear()
            if fate.lost is not None:
                fate.lost.fire()
            if not self._mortal.dead and self._host.faults.crashes_after(call.step, call.item, call.phase, "answered"):
                self._host.crash(self._mortal)
            return None if self._mortal.dead or fate.lost is not None else came

        delivery = CallInTransit(
            call=call,
            through=self._through,
            context=copy_context(),
            in_process=self._in_process,
            arrived=arrived,
        )
        return delivery

    @staticmethod
    def _copy(of: CallInTransit) -> CallInTransit:
        return CallInTransit(
            call=of.call, through=of.through, context=of.context.copy(), in_process=False, arrived=lambda _: None
        )


async def _never() -> Came:
    """What is left of an orchestrator that was killed waits until it is swept up."""
    gone: asyncio.Future[Came] = asyncio.get_running_loop().create_future()
    return await gone
