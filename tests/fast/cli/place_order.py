"""The shop of the documentation's 3 a.m.: place-order and basket, and participants over HTTP that answer as told."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import uvicorn
from aiohttp import web
from typing_extensions import override

from amends import CircuitLimits, Ended, Orchestrator, Redacted
from amends.config.settings import SagaSettings
from amends.core.saga.operation import Call, Participant, ask, operation, sleep
from amends.core.saga.saga import Saga
from amends.core.words.retry import Policy, Retry
from amends.server.app import application
from amends.server.context import Context
from amends.server.listen import listen_on, url_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveItems:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reservation:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    customer: str
    cents: int
    card: Annotated[str, Redacted]


@dataclass(frozen=True, slots=True)
class Hold:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    hold: str


@dataclass(frozen=True, slots=True)
class Receipt:
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    address: str
    reservation: str


@dataclass(frozen=True, slots=True)
class Shipment:
    tracking: str


class Inventory(Participant):
    reserve = operation(ReserveItems, Reservation, compensation="release")


class Payments(Participant):
    hold = operation(PlaceHold, Hold, compensation="unhold")
    capture = operation(Capture, Receipt)


class Shipping(Participant):
    schedule = operation(Schedule, Shipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: str
    customer: str
    sku: str
    quantity: int
    cents: int
    address: str
    card: Annotated[str, Redacted]


QUICK: Final = Policy(retry=Retry(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.05)))
SLOW: Final = Policy(
    compensation_retry=Retry(attempts_max=None, first=timedelta(seconds=30), cap=timedelta(seconds=30))
)

place_order = Saga("place-order", Order, version=1)


@place_order.compensable(policy=SLOW)
def reserve(order: Order) -> Call[Reservation]:
    return Inventory.reserve(sku=order.sku, quantity=order.quantity)


@place_order.compensable(policy=SLOW)
def hold(order: Order) -> Call[Hold]:
    return Payments.hold(customer=order.customer, cents=order.cents, card=order.card)


@place_order.pivot(hold, after=[reserve])
def capture(order: Order, held: Hold) -> Call[Receipt]:
    return Payments.capture(hold=held.id)


@place_order.retriable(reserve, after=[capture], policy=QUICK)
def ship(order: Order, reservation: Reservation) -> Call[Shipment]:
    return Shipping.schedule(address=order.address, reservation=reservation.id)


@dataclass(frozen=True, slots=True)
class Approval:
    by: str


basket = Saga("basket", int)


@basket.neutral()
def approve(cents: int) -> Call[Approval] | None:
    return None if cents < 100 else ask(Approval, f"somebody orders for {cents}", within=timedelta(days=2))


@basket.neutral(after=[approve])
def cooling_off(cents: int) -> Call[None]:
    return sleep(timedelta(hours=24))


class Mail(Participant):
    tell = operation(str)


notified = Saga("notified", str)


@notified.neutral()
async def think(_: str) -> None:
    return None


@notified.notice
def tell(word: str, end: Ended) -> Call[None] | None:
    return Mail.tell.of(word)


def order(id: str = "order-42", customer: str = "ann", *, cents: int = 4200) -> Order:
    return Order(id=id, customer=customer, sku="sku-1", quantity=1, cents=cents, address="x", card="tok_secret")


# -- participants


@dataclass(frozen=True, slots=True)
class Says:
    """One answer of a participant."""

    status: int = 200
    outcome: str | None = "succeeded"
    body: Mapping[str, Any] | None = None


REPLIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "reserve": {"id": "r-8812"},
    "hold": {"id": "h-1"},
    "capture": {"number": "n-1"},
    "schedule": {"tracking": "T-1"},
}

DECLINED: Final = Says(
    409,
    "rejected",
    {"type": "urn:x:rejected", "code": "card-declined", "detail": "Your card was declined"},
)
CANNOT: Final = Says(
    409,
    "cannot-compensate",
    {"type": "urn:x:cannot-compensate", "code": "already-picked", "detail": "r-8812 left the shelf"},
)
DOWN: Final = Says(503, None)
LOST: Final = Says(404, None)


@dataclass(slots=True)
class Participants:
    """Answers by operation, one after the other, the last one for ever; what isn't told is a yes."""

    answers: dict[str, list[Says]] = field(default_factory=dict[str, list[Says]])
    held: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    calls: list[str] = field(default_factory=list[str])

    def tell(self, operation: str, *says: Says) -> None:
        self.answers[operation] = list(says)

    def hold(self, operation: str) -> asyncio.Event:
        """Calls of this operation wait until the event is set."""
        return self.held.setdefault(operation, asyncio.Event())

    async def handle(self, request: web.Request) -> web.Response:
        operation = request.path.rpartition("/")[2]
        phase = request.headers["saga-phase"]
        self.calls.append(f"{operation}:{phase}")
        if operation in self.held:
            await self.held[operation].wait()
        told = self.answers.get(operation if phase in {"action", "compensation"} else f"{operation}:{phase}")
        says = Says() if told is None else told.pop(0) if len(told) > 1 else told[0]
        headers = {} if says.outcome is None else {"Saga-Outcome": says.outcome}
        body = says.body if says.body is not None else REPLIES.get(operation, {})
        return web.Response(
            status=says.status, headers=headers, body=msgspec.json.encode(body), content_type="application/json"
        )


class Served(uvicorn.Server):
    """Leaves signals to the tests."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs: participants, an orchestrator, its server."""

    participants: Participants
    places: str
    runs: Orchestrator
    url: str
    log: str


@asynccontextmanager
async def stage(
    folder: Path,
    sagas: Sequence[Saga[Any]] = (place_order, basket, notified),
    *,
    circuit: CircuitLimits | None = None,
    leave: Sequence[str] = (),
) -> AsyncGenerator[Stage]:
    """The shop, served, on a log in this folder."""
    participants = Participants()
    app = web.Application()
    app.router.add_post("/{rest:.*}", participants.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = listen_on("127.0.0.1", 0)
    await web.SockSite(runner, listening).start()
    places = url_of(listening)
    routes = [
        Inventory.at(f"{places}/inventory", circuit=circuit),
        Payments.at(f"{places}/payments", circuit=circuit),
        Shipping.at(f"{places}/shipping", circuit=circuit),
        Mail.at(f"{places}/mail", circuit=circuit),
    ]
    log = f"sqlite:///{folder}/shop.db"
    try:
        async with Orchestrator(sagas, log=log, routes=routes, leave=leave) as runs, served(runs) as url:
            yield Stage(participants, places, runs, url, log)
    finally:
        for each in participants.held.values():
            each.set()
        await runner.cleanup()


@asynccontextmanager
async def served(runs: Orchestrator) -> AsyncGenerator[str]:
    """An open orchestrator's API on a port of its own."""
    listening = listen_on("127.0.0.1", 0)
    sagas = {"place-order": SagaSettings(runbook="https://wiki.example/amends")}
    context = Context(runs.engine, lanes=runs.lanes, sagas=sagas)
    config = uvicorn.Config(
        application(context), lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = Served(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        yield url_of(listening)
    finally:
        context.stopping.set()
        server.should_exit = True
        await task
