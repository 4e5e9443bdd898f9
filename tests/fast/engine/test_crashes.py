"""The process dies at every append, and doesn't know it: a successor ends every run, and the stale one decides nothing.

A second `MemoryLog` on the same store is the successor; the first goes on trying, as a process would that was stopped
for a while and woke up. Participants keep the contract, so that what happened can be counted in their data.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta

import pytest
from typing_extensions import override

from amends.core.saga.operation import Call, Undo, ask
from amends.core.saga.outcomes import Compensated, Completed
from amends.core.saga.saga import Saga
from amends.core.words.errors import LogUnavailable, Rejected
from amends.core.words.retry import Policy
from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator
from amends.participant.service import Service
from amends.ports.log import Append, Start, Written
from tests.fast.engine.support import QUICK, Ask, Clock, Shop, order_saga, until, virtually

RUNS = 4


class Audited:
    """A shop behind the barrier whose data says what was done and undone how often."""

    def __init__(self) -> None:
        self.inbox = MemoryInbox()
        self.calls = 0
        service: Service[MemoryData] = Service(Shop, self.inbox)

        @service.action(Shop.act)
        async def act(request: Ask, data: MemoryData) -> str:
            self.calls += 1
            await asyncio.sleep(0.01)
            if request.what == "nothing left":
                raise Rejected("nothing left")
            data[request.what] = data.get(request.what, 0) + 1
            return request.what

        @service.compensation(Shop.act)
        async def undo(undo: Undo[Ask, str], data: MemoryData) -> None:
            await asyncio.sleep(0.01)
            data[undo.request.what] = data.get(undo.request.what, 0) - 1

        self.service = service


class Overtaken(MemoryLog):
    """Says when its n-th append is to be written, and waits there until it is told to go on (or fails on the way)."""

    def __init__(self, store: MemoryStore, at: int, *, after: bool) -> None:
        super().__init__(store)
        self.at, self.after = at, after
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.refused = self.accepted_late = self.appends = 0

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        self.appends += 1
        stop = self.appends == self.at
        if stop and not self.after:
            self.reached.set()
            await self.go_on.wait()
        verdicts = await super().append(batch)
        if stop and self.after:
            self.reached.set()
            await self.go_on.wait()
        elif self.reached.is_set():
            told = [*zip(batch, verdicts, strict=True)]
            owned = [verdict for entry, verdict in told if isinstance(entry, Append) and entry.epoch is not None]
            self.refused += owned.count(Written.NOT_YOURS)
            self.accepted_late += owned.count(Written.ACCEPTED)
        return verdicts


def three_steps(name: str, *, says_no: bool) -> Saga[str]:
    """Two steps at once, one after them, and a pivot that may say no."""
    saga = Saga(name, str)

    @saga.compensable(policy=QUICK)
    def left(run: str) -> Call[str]:
        return Shop.act(f"{run} left")

    @saga.compensable(policy=QUICK)
    def right(run: str) -> Call[str]:
        return Shop.act(f"{run} right")

    @saga.compensable(left, after=[right], policy=QUICK)
    def then(run: str, reply: str) -> Call[str]:
        return Shop.act(f"{run} then")

    @saga.pivot(then, policy=QUICK)
    def pay(run: str, reply: str) -> Call[str]:
        return Shop.act("nothing left" if says_no else f"{run} pay")

    @saga.retriable(after=[pay], policy=QUICK)
    def ship(run: str) -> Call[str]:
        return Shop.act(f"{run} ship")

    return saga


@pytest.mark.parametrize("after", [False, True], ids=["before the append", "after the append"])
@pytest.mark.parametrize("at", range(1, 11))
def test_a_successor_ends_every_run_and_the_stale_process_decides_nothing(at: int, *, after: bool) -> None:
    fine, refused = three_steps("fine", says_no=False), three_steps("refused", says_no=True)
    stale_refused = 0

    async def test() -> None:
        nonlocal stale_refused
        shop, store = Audited(), MemoryStore()
        routes = [Shop.at(shop.service)]
        log = Overtaken(store, at, after=after)
        acknowledged: list[str] = []

        async def start(runs: Orchestrator, saga: Saga[str], i: int) -> None:
            run = f"{saga.name}-{i}"
            await runs.start(saga, run, id=run)
            acknowledged.append(run)

        async with Orchestrator([fine, refused], log=log, routes=routes, clock=Clock()) as stale:
            starting = [asyncio.create_task(start(stale, saga, i)) for saga in (fine, refused) for i in range(RUNS)]
            await log.reached.wait()
            async with Orchestrator([fine, refused], log=MemoryLog(store), routes=routes, clock=Clock()) as successor:
                await asyncio.sleep(0.005)
                log.go_on.set()
                with contextlib.suppress(LogUnavailable):
                    await asyncio.gather(*starting)
                await until(lambda: all(kept.row.ended_at is not None for kept in store.runs.values()))
                for run in acknowledged:
                    async with asyncio.timeout(600):
                        outcome = await successor.get(run).outcome()
                    assert isinstance(outcome, Completed if run.startswith("fine") else Compensated), outcome
                await asyncio.sleep(120)
                assert not successor.engine.worker.runs
        stale_refused = log.refused
        # Who is declared dead may still write until somebody takes over: here, what it starts after that.
        assert not log.accepted_late or (at == 1 and not after)
        assert len(acknowledged) == len(store.runs)
        for what, count in shop.inbox.data.items():
            assert count == (1 if what.startswith("fine") else 0), what
        assert len([what for what in shop.inbox.data if what.startswith("fine")]) == 5 * RUNS

    virtually(test)
    if at in range(2, 6):
        assert stale_refused, "the stale process did try"


def test_a_stale_process_that_only_waits_does_not_run_hot() -> None:
    """Its run was taken over while it waited; letting go of it fails for ever, and once is enough."""
    asked = Saga("asked", str)

    @asked.neutral()
    def approve(what: str) -> Call[str]:
        return ask(str, "?", within=timedelta(minutes=1))

    class Counting(MemoryLog):
        released = 0

        @override
        async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
            self.released += 1
            await asyncio.sleep(0.01)
            await takeover()
            return await super().release(run, epoch, version, due_at)

    store = MemoryStore()
    log = Counting(store)
    successor = MemoryLog(store)

    async def takeover() -> None:
        if store.live == "worker-1":
            await successor.open()
            await successor.claim(list(store.graphs), Clock().now(), 10)

    async def test() -> None:
        # Room for one run: it is begun in memory, and let go of at once, for it is crowded there.
        async with Orchestrator([asked], log=log, clock=Clock(), runs_max=1) as stale:
            await stale.start(asked, "x", id="q")
            await asyncio.sleep(10)
            assert not stale.engine.worker.runs
        assert log.released == 1

    virtually(test)


@pytest.mark.parametrize("policy", [None, Policy()], ids=["as it is", "as said"])
def test_closing_and_opening_in_the_middle_loses_and_doubles_nothing(policy: Policy | None) -> None:
    order = order_saga(policy=policy)

    async def test() -> None:
        shop, store = Audited(), MemoryStore()
        routes = [Shop.at(shop.service)]
        for _ in range(5):
            async with Orchestrator([order], log=MemoryLog(store), routes=routes, clock=Clock()) as runs:
                for i in range(5):
                    await runs.start(order, f"x{i}", id=f"o{i}")
                await asyncio.sleep(0.012)
        async with Orchestrator([order], log=MemoryLog(store), routes=routes, clock=Clock()) as runs:
            for i in range(5):
                assert isinstance(await runs.get(f"o{i}").outcome(), Completed)
        assert shop.inbox.data == {f"x{i}": 3 for i in range(5)}

    virtually(test)
