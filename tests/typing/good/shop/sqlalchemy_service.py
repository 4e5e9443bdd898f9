"""A service on SQLAlchemy: handlers are awaited and share the barrier's session."""

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from amends import Rejected, Undo
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.participant import Service

from .contract import Inventory, Reservation, ReserveItems

metadata = MetaData()
barrier_table(metadata)
service = Service(Inventory, SqlAlchemyInbox(async_sessionmaker(create_async_engine("sqlite+aiosqlite:///stock.db"))))

TAKE = text("update stock set free = free - :n where sku = :sku and free >= :n returning sku")
GIVE_BACK = text("update stock set free = free + :n where sku = :sku")


@service.action(Inventory.reserve)
async def reserve(request: ReserveItems, db: AsyncSession) -> Reservation:
    taken = await db.execute(TAKE, {"sku": request.sku, "n": request.quantity})
    if taken.scalar_one_or_none() is None:
        raise Rejected("out of stock", code="out-of-stock")
    return Reservation(id=request.sku)


@service.compensation(Inventory.reserve)
async def release(undo: Undo[ReserveItems, Reservation], db: AsyncSession) -> None:
    made: Reservation = undo.made
    await db.execute(GIVE_BACK, {"sku": made.id, "n": undo.request.quantity})


app = service.asgi()
at_a_url = Inventory.at("http://localhost:8001")
in_this_process = Inventory.at(service)
