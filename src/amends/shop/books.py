"""What the shop's databases and the orchestrator's log say, read from their files and nothing else.

The three services keep different things, but their books have one form: *holdings* (units of a product, cents of a
customer, places of a carrier's day) with what there was and what is free, *effects* that take from them, and a
*journal*.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.sql.expression import SQLColumnExpression

from amends.shop import inventory, payment, records, shipping
from amends.shop.database import driver_url
from amends.shop.saga import Order, place_held_order, place_order

SAGAS: Final = frozenset({place_order.name, place_held_order.name})


class NothingToAudit(Exception):
    """There is no such database; the message names it."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What there was of something at the start, and what is free now."""

    subject: str
    opening: int
    free: int


@dataclass(frozen=True, slots=True)
class EffectLine:
    """Something an action made: `amount` of `subject`."""

    kind: str
    id: int
    run: str
    key: str
    state: str
    undone: int
    subject: str
    amount: int

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.amount} of {self.subject})"


@dataclass(frozen=True, slots=True)
class BookLine:
    """One line of a journal."""

    run: str
    key: str
    subject: str
    amount: int


@dataclass(frozen=True, slots=True)
class Books:
    """One service's books."""

    service: str
    holdings: Sequence[Holding]
    effects: Sequence[EffectLine]
    journal: Sequence[BookLine]
    faults: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """How the log says a run stands. `order` is its input, `None` where it isn't a saga of the shop."""

    id: str
    saga: str
    state: str
    by_hand: bool
    steps: Mapping[str, str]
    order: Order | None


@dataclass(frozen=True, slots=True)
class Everything:
    """The log, the books, and the ids the log knew after the books had been read: runs go on while one reads."""

    runs: Sequence[LoggedRun]
    known: frozenset[str]
    books: Sequence[Books]


async def read_everything(*, log: str, inventory: str, payment: str, shipping: str) -> Everything:
    """Read the log first and the books then: what had ended when the log was read has ended in the books too."""
    runs = await read_runs(log)
    books = [await read_inventory(inventory), await read_payment(payment), await read_shipping(shipping)]
    return Everything(runs, await read_ids(log), books)


# -- the services


async def read_inventory(url: str) -> Books:
    """Units of products."""
    stock, made = inventory.Stock, inventory.Reservation
    async with snapshot(url) as db:
        return Books(
            "inventory",
            [Holding(*row) for row in (await db.execute(select(stock.sku, stock.opening, stock.free)))],
            await _effects(db, "reservation", made, made.sku, made.quantity),
            await _journal(db, inventory.InventoryJournal),
            await _faults(db, inventory.InventoryFault),
        )


async def read_payment(url: str) -> Books:
    """Cents of customers."""
    account, charge, hold = payment.Account, payment.Charge, payment.Hold
    async with snapshot(url) as db:
        return Books(
            "payment",
            [Holding(*row) for row in (await db.execute(select(account.customer, account.opening, account.balance)))],
            [
                *await _effects(db, "charge", charge, charge.customer, charge.cents),
                *await _effects(db, "hold", hold, hold.customer, hold.cents),
            ],
            await _journal(db, payment.PaymentJournal),
            await _faults(db, payment.PaymentFault),
        )


async def read_shipping(url: str) -> Books:
    """Places of carriers, by day."""
    day, made = shipping.Day, shipping.Parcel
    async with snapshot(url) as db:
        days = await db.execute(select(day.carrier + " " + day.day, day.capacity, day.capacity - day.booked))
        return Books(
            "shipping",
            [Holding(*row) for row in days],
            await _effects(db, "shipment", made, made.carrier + " " + made.day, literal(1)),
            await _journal(db, shipping.ShippingJournal),
            await _faults(db, shipping.ShippingFault),
        )


async def _effects(
    db: AsyncConnection,
    kind: str,
    of: type[records.EffectRecord],
    subject: SQLColumnExpression[str],
    amount: SQLColumnExpression[int],
) -> list[EffectLine]:
    rows = await db.execute(select(of.id, of.run, of.key, of.state, of.undone, subject, amount).order_by(of.id))
    return [EffectLine(kind, *row) for row in rows]


async def _journal(db: AsyncConnection, of: type[records.JournalLine]) -> list[BookLine]:
    rows = await db.execute(select(of.run, of.key, of.subject, of.amount).order_by(of.id))
    return [BookLine(*row) for row in rows]


async def _faults(db: AsyncConnection, of: type[records.FaultRecord]) -> dict[str, int]:
    rows = await db.execute(select(of.kind, func.count()).group_by(of.kind))
    return dict(rows.all())


# -- the log


async def read_runs(url: str) -> list[LoggedRun]:
    """Every run, how it stands, and what was ordered."""
    statement = """
        select runs.id, runs.saga, runs.state, runs.by_hand, cast(runs.steps as text) as steps, events.body
        from {schema}runs as runs join {schema}events as events on events.run = runs.id and events.version = 1
        order by runs.created_at, runs.id
    """
    async with snapshot(url) as db:
        rows = (await db.execute(text(statement.format(schema=_schema(url))))).mappings().all()
    return [_run(**row) for row in rows]


async def read_ids(url: str) -> frozenset[str]:
    """The ids of all runs."""
    async with snapshot(url) as db:
        return frozenset(await db.scalars(text(f"select id from {_schema(url)}runs")))  # noqa: S608 - one of two constants


def _run(*, id: str, saga: str, state: str, by_hand: object, steps: str | bytes, body: str | bytes) -> LoggedRun:
    order = msgspec.json.decode(body, type=_Started).input if saga in SAGAS else None
    states = {step.name: step.state for step in msgspec.json.decode(steps, type=list[_StepRow])}
    return LoggedRun(id, saga, state, bool(by_hand), states, order)


class _Started(msgspec.Struct):
    """What is needed of a run's first event."""

    input: Order


class _StepRow(msgspec.Struct):
    """What is needed of a step's summary."""

    name: str
    state: str


def _schema(url: str) -> str:
    return "" if url.startswith("sqlite") else "amends."


# -- reading without touching


@asynccontextmanager
async def snapshot(url: str) -> AsyncGenerator[AsyncConnection]:
    """One moment of a database, read-only; `NothingToAudit` where there is none."""
    sqlite = url.startswith("sqlite:///")
    if sqlite:
        engine = create_async_engine(driver_url(_read_only(url)))
    else:
        engine = create_async_engine(driver_url(url), isolation_level="REPEATABLE READ")
    try:
        async with engine.connect() as connection:
            if sqlite:
                await connection.exec_driver_sql("begin")  # the driver by itself begins nothing before a write
            yield connection
    finally:
        await engine.dispose()


def _read_only(url: str) -> str:
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise NothingToAudit(f"there is no database at {path}")
    return f"sqlite:///file:{path.absolute()}?mode=ro&uri=true"
