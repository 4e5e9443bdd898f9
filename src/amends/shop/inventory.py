"""Inventory: units of products, free or set aside for an order.

Law of its books, at every moment and for every product: units at the start = free units + units in active reservations.
"""

from collections.abc import Iterable

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amends import CannotCompensate, Rejected, Undo, this_call
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.participant import Service
from amends.shop.catalogue import SCARCE, Catalogue
from amends.shop.contract import Inventory, Reserved, ReserveItems
from amends.shop.database import Database
from amends.shop.records import CallRecord, EffectRecord, FaultRecord, JournalLine, stamp


class InventoryBase(DeclarativeBase):
    """The tables of this service."""


class Stock(InventoryBase):
    """One product: what there was at the start, and what is free now."""

    __tablename__ = "stock"
    sku: Mapped[str] = mapped_column(primary_key=True)
    opening: Mapped[int]
    free: Mapped[int]


class Reservation(EffectRecord, InventoryBase):
    """Units set aside: `active` or `released`."""

    __tablename__ = "reservations"
    sku: Mapped[str]
    quantity: Mapped[int]


class InventoryJournal(JournalLine, InventoryBase):
    """`reserve` and `release`; the subject is the product, the amount is units."""

    __tablename__ = "journal"


class InventoryFault(FaultRecord, InventoryBase):
    """See `FaultRecord`."""

    __tablename__ = "faults"


class InventoryCall(CallRecord, InventoryBase):
    """See `CallRecord`."""

    __tablename__ = "calls"


barrier_table(InventoryBase.metadata)


async def reserve(request: ReserveItems, db: AsyncSession) -> Reserved:
    """Set units aside, if there are enough."""
    sku, quantity = request.sku, request.quantity
    if quantity < 1:
        raise Rejected(f"{quantity} units can't be reserved", code="bad-quantity")
    taken = await db.execute(
        update(Stock)
        .where(Stock.sku == sku, Stock.free >= quantity)
        .values(free=Stock.free - quantity)
        .returning(Stock.free)
    )
    if taken.scalar_one_or_none() is None:
        stock = await db.get(Stock, sku)
        if stock is None:
            raise Rejected(f"there is no product {sku}", code="unknown-sku")
        raise Rejected(f"{quantity} of {sku} wanted, {stock.free} there", code="out-of-stock")
    call = this_call()
    made = Reservation(run=call.run, key=call.key, sku=sku, quantity=quantity)
    db.add_all([made, InventoryJournal(run=call.run, key=call.key, what="reserve", subject=sku, amount=-quantity)])
    await db.flush()
    return Reserved(made.id, sku, quantity)


async def release(undo: Undo[ReserveItems, Reserved], db: AsyncSession) -> None:
    """Put the units back on the shelf."""
    call = this_call()
    undone = await db.execute(
        update(Reservation)
        .where(Reservation.id == undo.made.reservation)
        .values(state="released", undone=Reservation.undone + 1, undo_key=call.key, undone_at=stamp())
        .returning(Reservation.sku, Reservation.quantity)
    )
    row = undone.one_or_none()
    if row is None:
        raise CannotCompensate(f"there is no reservation {undo.made.reservation}", code="no-such-reservation")
    sku, quantity = row
    await db.execute(update(Stock).where(Stock.sku == sku).values(free=Stock.free + quantity))
    db.add(InventoryJournal(run=call.run, key=call.key, what="release", subject=sku, amount=quantity))


def opening(catalogue: Catalogue) -> Iterable[InventoryBase]:
    """The shelves at the start."""
    units = dict.fromkeys(catalogue.products(), catalogue.stock) | {SCARCE: catalogue.scarce}
    return [Stock(sku=sku, opening=count, free=count) for sku, count in units.items()]


def service(database: Database) -> Service[AsyncSession]:
    """The saga operations over this database."""
    made = Service(Inventory, SqlAlchemyInbox(database.sessions))
    made.action(Inventory.reserve)(reserve)
    made.compensation(Inventory.reserve)(release)
    return made
