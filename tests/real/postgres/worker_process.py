"""A worker as a process of its own, with the shop's services in it, whose effects are in a database that all share.

`python -m tests.real.postgres.worker_process LOG SHOP`: prints `open` when it works; stops on SIGTERM,
or when its parent ends.
"""

import asyncio
import logging
import os
import signal
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from amends.core.saga.operation import Call, Participant, Undo, operation
from amends.core.saga.saga import Saga
from amends.core.words.errors import Rejected
from amends.inboxes.sqlalchemy import SqlAlchemyInbox
from amends.orchestrator import Orchestrator
from amends.participant.service import Service
from tests.fast.engine.support import Ask
from tests.real.postgres.shop import QUICK

POOL = 4
CREATE = "create table if not exists effect (what text not null, change integer not null)"


class Stock(Participant):
    take = operation(Ask, str, compensation="give-back")


class Bank(Participant):
    hold = operation(Ask, str, compensation="unhold")
    capture = operation(Ask, str)


storm = Saga("storm", str)


@storm.compensable(policy=QUICK)
def reserve(run: str) -> Call[str]:
    return Stock.take(f"{run} reserve")


@storm.compensable(policy=QUICK)
def hold(run: str) -> Call[str]:
    return Bank.hold(f"{run} hold")


@storm.pivot(hold, after=[reserve], policy=QUICK)
def capture(run: str, held: str) -> Call[str]:
    return Bank.capture(f"{run} capture")


@storm.retriable(after=[capture], policy=QUICK)
def send(run: str) -> Call[str]:
    return Stock.take(f"{run} send")


def is_refused(run: str) -> bool:
    """Every third order finds no money in the end."""
    return int(run.rpartition("-")[2]) % 3 == 0


async def note(db: AsyncSession, what: str, change: int) -> None:
    await db.execute(text("insert into effect values (:what, :change)"), {"what": what, "change": change})


async def act(request: Ask, db: AsyncSession) -> str:
    if request.what.endswith(" capture") and is_refused(request.what.split(" ", maxsplit=1)[0]):
        raise Rejected("no money")
    await note(db, request.what, 1)
    return request.what


async def undo(asked: Undo[Ask, str], db: AsyncSession) -> None:
    await note(db, asked.request.what, -1)


def opened(shop: str) -> tuple[AsyncEngine, SqlAlchemyInbox]:
    engine = create_async_engine(shop.replace("postgresql://", "postgresql+asyncpg://"), pool_size=POOL, max_overflow=0)
    return engine, SqlAlchemyInbox(async_sessionmaker(engine, expire_on_commit=False))


async def make_tables(shop: str) -> None:
    engine, inbox = opened(shop)
    await inbox.create()
    async with engine.begin() as connection:
        await connection.execute(text(CREATE))
    await engine.dispose()


async def main(log: str, shop: str) -> None:
    engine, inbox = opened(shop)
    stock, bank = Service(Stock, inbox), Service(Bank, inbox)
    for service, doing in ((stock, Stock.take), (bank, Bank.hold), (bank, Bank.capture)):
        service.action(doing)(act)
    stock.compensation(Stock.take)(undo)
    bank.compensation(Bank.hold)(undo)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)  # nothing is ever said there: it ended
    async with Orchestrator([storm], log=log, routes=[Stock.at(stock), Bank.at(bank)]):
        os.write(sys.stdout.fileno(), b"open\n")
        await over.wait()
    await engine.dispose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
