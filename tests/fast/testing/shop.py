"""A shop for the workshop's tests: services with databases of their own, and sagas that use them."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from amends import Call, Participant, Policy, Rejected, Retry, Saga, Undo, ask, operation, sleep
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.inboxes.sqlite import SqliteInbox
from amends.participant.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reservation:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    customer: str
    cents: int


@dataclass(frozen=True, slots=True)
class Receipt:
    number: str
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Ship:
    reservation: str


@dataclass(frozen=True, slots=True)
class Shipment:
    tracking: str


class Inventory(Participant):
    reserve = operation(Reserve, Reservation, compensation="release")


class Payments(Participant):
    hold = operation(Charge, Receipt, compensation="unhold")
    charge = operation(Charge, Receipt)


class Shipping(Participant):
    schedule = operation(Ship, Shipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    customer: str = "ann"
    sku: str = "sku-1"
    quantity: int = 2
    cents: int = 4200


ORDER = Order()
ADAMANT = Policy(retry=Retry(attempts_max=50, first=timedelta(seconds=1), cap=timedelta(seconds=60)))

TWO_HOURS = Policy(retry=Retry(attempts_max=None, give_up_after=timedelta(hours=2)))

place_order = Saga("place-order", Order)


@place_order.compensable()
def reserve(order: Order) -> Call[Reservation]:
    return Inventory.reserve(sku=order.sku, quantity=order.quantity)


@place_order.compensable(policy=ADAMANT)
def hold(order: Order) -> Call[Receipt]:
    return Payments.hold(customer=order.customer, cents=order.cents)


@place_order.pivot(after=[reserve, hold])
def charge(order: Order) -> Call[Receipt]:
    return Payments.charge(customer=order.customer, cents=order.cents)


@place_order.retriable(reserve, after=[charge], policy=TWO_HOURS)
def ship(order: Order, reserved: Reservation) -> Call[Shipment]:
    return Shipping.schedule(reserved.id)


patient = Saga("patient", Order)


@patient.neutral()
def cooling_off(order: Order) -> Call[None]:
    return sleep(timedelta(hours=24))


@patient.neutral(after=[cooling_off])
def approve(order: Order) -> Call[bool]:
    return ask(bool, "really?", within=timedelta(days=2))


@patient.pivot(after=[approve])
def pay(order: Order) -> Call[Receipt]:
    return Payments.charge(customer=order.customer, cents=order.cents)


class Stock:
    """Inventory on SQLite, with handlers that block on threads."""

    def __init__(self, folder: Path, free: int = 10) -> None:
        self.folder = folder
        inbox = SqliteInbox(folder / "stock.db")
        with inbox.transaction() as db:
            db.execute("create table stock (sku text primary key, free integer)")
            db.execute("insert into stock values ('sku-1', ?)", (free,))
        service: Service[sqlite3.Connection] = Service(Inventory, inbox)
        self.inbox = inbox
        self.service = service
        self.calls = 0

        @service.action(Inventory.reserve)
        def take(request: Reserve, db: sqlite3.Connection) -> Reservation:
            self.calls += 1
            taken = db.execute(
                "update stock set free = free - ? where sku = ? and free >= ?",
                (request.quantity, request.sku, request.quantity),
            )
            if taken.rowcount != 1:
                raise Rejected("out of stock", code="out-of-stock")
            return Reservation(f"r-{request.sku}")

        @service.compensation(Inventory.reserve)
        def give_back(undo: Undo[Reserve, Reservation], db: sqlite3.Connection) -> None:
            db.execute("update stock set free = free + ? where sku = ?", (undo.request.quantity, undo.request.sku))

        _ = (take, give_back)

    @property
    def free(self) -> int:
        with self.inbox.transaction() as db:
            return int(db.execute("select free from stock").fetchone()[0])

    def close(self) -> None:
        self.service.close()
        self.inbox.close()


class Bank:
    """Payments on SQLAlchemy and aiosqlite, awaited, behind plain ASGI."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], credit: int) -> None:
        self.sessions = sessions
        service: Service[AsyncSession] = Service(Payments, SqlAlchemyInbox(sessions))
        self.app = service.asgi()

        async def book(db: AsyncSession, cents: int) -> None:
            moved = await db.execute(text("update credit set cents = cents - :c where cents >= :c"), {"c": cents})
            if getattr(moved, "rowcount", 0) != 1:
                raise Rejected("declined", code="card-declined")

        @service.action(Payments.hold)
        async def place(request: Charge, db: AsyncSession) -> Receipt:
            await book(db, request.cents)
            return Receipt("h-1", [])

        @service.compensation(Payments.hold)
        async def lift(undo: Undo[Charge, Receipt], db: AsyncSession) -> None:
            await db.execute(text("update credit set cents = cents + :c"), {"c": undo.request.cents})

        @service.action(Payments.charge)
        async def take(request: Charge, db: AsyncSession) -> Receipt:
            return Receipt("c-1", [])

        _ = (place, lift, take)
        self.credit_at_first = credit

    async def credit(self) -> int:
        async with self.sessions() as db:
            return int((await db.execute(text("select cents from credit"))).scalar_one())


@asynccontextmanager
async def opened_bank(folder: Path, credit: int = 10_000) -> AsyncGenerator[Bank]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'bank.db'}", poolclass=NullPool)
    metadata = MetaData()
    barrier_table(metadata)
    async with engine.begin() as db:
        await db.run_sync(metadata.create_all)
        await db.execute(text("create table credit (cents integer)"))
        await db.execute(text("insert into credit values (:c)"), {"c": credit})
    try:
        yield Bank(async_sessionmaker(engine), credit)
    finally:
        await engine.dispose()
