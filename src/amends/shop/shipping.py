"""Shipping: carriers that serve towns and have room for so many parcels a day.

Law of its books, at every moment, for every carrier and day: booked places = active shipments, and never more than
there is room.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amends import CannotCompensate, Rejected, Undo, this_call
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.participant import Service
from amends.shop import contract
from amends.shop.catalogue import FERRY, TOWNS, Catalogue
from amends.shop.contract import AskRoute, DeliveryRoute, SendParcel, Shipping
from amends.shop.database import Database
from amends.shop.records import CallRecord, EffectRecord, FaultRecord, JournalLine, stamp


class ShippingBase(DeclarativeBase):
    """The tables of this service."""


class Carrier(ShippingBase):
    """Carriers; `usual` is its room on a day that is opened when all others are full."""

    __tablename__ = "carriers"
    name: Mapped[str] = mapped_column(primary_key=True)
    usual: Mapped[int]


class Town(ShippingBase):
    """Places that a carrier delivers to; anywhere else is undeliverable."""

    __tablename__ = "towns"
    name: Mapped[str] = mapped_column(primary_key=True)
    carrier: Mapped[str]


class Day(ShippingBase):
    """A carrier's room on one day. A day that isn't `on_sale` is open to parcels that must go only."""

    __tablename__ = "days"
    carrier: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    capacity: Mapped[int]
    booked: Mapped[int] = mapped_column(default=0)
    on_sale: Mapped[bool] = mapped_column(default=True)


class Parcel(EffectRecord, ShippingBase):
    """A booked place: `active` or `cancelled`. Its number is the tracking number."""

    __tablename__ = "shipments"
    address: Mapped[str]
    carrier: Mapped[str]
    day: Mapped[str]


class ShippingJournal(JournalLine, ShippingBase):
    """`schedule`, `ship` and `cancel`; the subject is `carrier day`, the amount is free places."""

    __tablename__ = "journal"


class ShippingFault(FaultRecord, ShippingBase):
    """See `FaultRecord`."""

    __tablename__ = "faults"


class ShippingCall(CallRecord, ShippingBase):
    """See `CallRecord`."""

    __tablename__ = "calls"


barrier_table(ShippingBase.metadata)


async def route(request: AskRoute, db: AsyncSession) -> DeliveryRoute:
    """Look up the carriers for a place. Changes nothing."""
    return DeliveryRoute(await _carrier_for(request.address, db))


async def schedule(request: SendParcel, db: AsyncSession) -> contract.Shipment:
    """Book the earliest day on sale that has room."""
    carrier = await _carrier_for(request.address, db)
    day = await _book(carrier, db, on_sale_only=True)
    if day is None:
        raise Rejected(f"{carrier} is booked up", code="no-capacity")
    return await _booked("schedule", request.address, carrier, day, db)


async def ship(request: SendParcel, db: AsyncSession) -> contract.Shipment:
    """Book the earliest day that has room, and open a further one where none has: this parcel must go."""
    carrier = await _carrier_for(request.address, db)
    day = await _book(carrier, db, on_sale_only=False) or await _book_further_day(carrier, db)
    return await _booked("ship", request.address, carrier, day, db)


async def cancel(undo: Undo[SendParcel, contract.Shipment], db: AsyncSession) -> None:
    """Give the place back."""
    call = this_call()
    undone = await db.execute(
        update(Parcel)
        .where(Parcel.id == undo.made.tracking)
        .values(state="cancelled", undone=Parcel.undone + 1, undo_key=call.key, undone_at=stamp())
        .returning(Parcel.carrier, Parcel.day)
    )
    row = undone.one_or_none()
    if row is None:
        raise CannotCompensate(f"there is no shipment {undo.made.tracking}", code="no-such-shipment")
    carrier, day = row
    await db.execute(update(Day).where(Day.carrier == carrier, Day.day == day).values(booked=Day.booked - 1))
    db.add(ShippingJournal(run=call.run, key=call.key, what="cancel", subject=f"{carrier} {day}", amount=1))


async def _carrier_for(address: str, db: AsyncSession) -> str:
    name = address.rpartition(",")[2].strip()
    town = await db.get(Town, name)
    if town is None:
        raise Rejected(f"nobody delivers to {name}", code="undeliverable")
    return town.carrier


async def _book(carrier: str, db: AsyncSession, *, on_sale_only: bool) -> str | None:
    """Take a place. Another order may take the last one of the day that was looked up: then the next day is looked
    up.
    """
    room = [Day.carrier == carrier, Day.booked < Day.capacity]
    wanted = [*room, Day.on_sale] if on_sale_only else room
    while (day := await db.scalar(select(func.min(Day.day)).where(*wanted))) is not None:
        taken = await db.execute(
            update(Day)
            .where(Day.day == day, *room)
            .values(booked=Day.booked + 1)
            .returning(Day.day)
            .execution_options(synchronize_session=False)
        )
        if taken.scalar_one_or_none() is not None:
            return day
    return None


async def _book_further_day(carrier: str, db: AsyncSession) -> str:
    row = await db.get_one(Carrier, carrier, with_for_update=True)
    day = await _book(carrier, db, on_sale_only=False)  # another call may have opened one while it held the lock
    if day is not None:
        return day
    last = await db.scalar(select(func.max(Day.day)).where(Day.carrier == carrier))
    following = (date.fromisoformat(last) if last else datetime.now(UTC).date()) + timedelta(days=1)
    db.add(Day(carrier=carrier, day=following.isoformat(), capacity=row.usual, booked=1, on_sale=False))
    await db.flush()
    return following.isoformat()


async def _booked(what: str, address: str, carrier: str, day: str, db: AsyncSession) -> contract.Shipment:
    call = this_call()
    made = Parcel(run=call.run, key=call.key, address=address, carrier=carrier, day=day)
    db.add_all([made, ShippingJournal(run=call.run, key=call.key, what=what, subject=f"{carrier} {day}", amount=-1)])
    await db.flush()
    return contract.Shipment(made.id, carrier, day)


def opening(catalogue: Catalogue) -> Iterable[ShippingBase]:
    """Carriers, the towns they serve, and the days on sale, from tomorrow on. The ferry sails once."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    rows: list[ShippingBase] = [Town(name=town, carrier=carrier) for town, carrier in TOWNS.items()]
    for carrier in sorted(set(TOWNS.values())):
        room, days = (catalogue.ferry, 1) if carrier == FERRY else (catalogue.capacity, catalogue.days)
        rows.append(Carrier(name=carrier, usual=max(1, room)))
        rows += [
            Day(carrier=carrier, day=(tomorrow + timedelta(days=number)).isoformat(), capacity=room, booked=0)
            for number in range(days)
        ]
    return rows


def service(database: Database) -> Service[AsyncSession]:
    """The saga operations over this database."""
    made = Service(Shipping, SqlAlchemyInbox(database.sessions))
    made.action(Shipping.route)(route)
    made.action(Shipping.schedule)(schedule)
    made.compensation(Shipping.schedule)(cancel)
    made.action(Shipping.ship)(ship)
    return made
