"""A shop that several workers of one test share: its participants are behind real barriers, and may take their time."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from amends.core.run.answers import Came
from amends.core.saga.operation import Call, Participant, Route, Undo, operation
from amends.core.saga.saga import Saga
from amends.core.words.keys import Phase
from amends.core.words.retry import Policy, Retry
from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.participant.service import Service
from amends.ports.transport import Outgoing, Transport
from tests.fast.engine.support import Ask

QUICK = Policy(
    timeout=timedelta(seconds=30),
    retry=Retry(attempts_max=None, first=timedelta(milliseconds=20), cap=timedelta(milliseconds=100)),
)


class Stock(Participant):
    take = operation(Ask, str, compensation="give-back")


class Bank(Participant):
    pay = operation(Ask, str)


order = Saga("order", str)


@order.compensable(policy=QUICK)
def reserve(run: str) -> Call[str]:
    return Stock.take(f"{run} reserve")


@order.pivot(reserve, policy=QUICK)
def pay(run: str, reserved: str) -> Call[str]:
    return Bank.pay(f"{run} pay")


@order.retriable(after=[pay], policy=QUICK)
def send(run: str) -> Call[str]:
    return Stock.take(f"{run} send")


class Shop:
    """`effects` counts what was done and not undone; `asked` is every call that arrived, as `<run> <step>`."""

    def __init__(self) -> None:
        self.inbox = MemoryInbox()
        self.asked: list[str] = []
        self._held: dict[str, asyncio.Event] = {}
        self._stock = Service(Stock, self.inbox)
        self._bank = Service(Bank, self.inbox)
        self._stock.action(Stock.take)(self._act)
        self._bank.action(Bank.pay)(self._act)
        self._stock.compensation(Stock.take)(self._undo)

    @property
    def routes(self) -> list[Route]:
        return [Stock.at(self._stock), Bank.at(self._bank)]

    @property
    def effects(self) -> MemoryData:
        return self.inbox.data

    def hold(self, what: str) -> asyncio.Event:
        """Answers to these calls are on their way until the event is set; what was asked for is done at once."""
        event = self._held[what] = asyncio.Event()
        return event

    def around(self, transport: Transport) -> Transport:
        """The way to the participants, on which answers are held."""
        return _Way(transport, self._held)

    def _act(self, request: Ask, db: MemoryData) -> str:
        self.asked.append(request.what)
        db[request.what] = db.get(request.what, 0) + 1
        return request.what

    def _undo(self, undo: Undo[Ask, str], db: MemoryData) -> None:
        db[undo.request.what] -= 1


class _Way:
    """`ports.transport.Transport`."""

    def __init__(self, through: Transport, held: Mapping[str, asyncio.Event]) -> None:
        self._through = through
        self._held = held

    async def send(self, call: Outgoing) -> Came:
        came = await self._through.send(call)
        event = self._held.get(f"{call.run} {call.step}")
        if event is not None and call.phase is Phase.ACTION:
            await event.wait()
        return came

    async def close(self) -> None:
        await self._through.close()
