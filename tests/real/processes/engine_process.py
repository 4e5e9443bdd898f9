"""A shop in one process, all of it in files: the log, and participants behind the barrier with databases of their own.

Started by the test beside it, killed at any moment, and started again. Says on its standard output which runs are
acknowledged, and when all have ended.
"""

import asyncio
import os
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

from amends.core.saga.operation import Call, Participant, Undo, operation
from amends.core.saga.outcomes import Compensated, Completed
from amends.core.saga.saga import Saga
from amends.core.words.errors import Rejected
from amends.core.words.retry import Policy, Retry
from amends.inboxes.sqlite import SqliteInbox
from amends.orchestrator import Orchestrator
from amends.participant.service import Service
from tests.fast.engine.support import Ask

QUICK = Policy(retry=Retry(attempts_max=None, first=timedelta(milliseconds=50), cap=timedelta(milliseconds=200)))


class Stock(Participant):
    take = operation(Ask, str, compensation="give-back")


class Bank(Participant):
    hold = operation(Ask, str, compensation="unhold")
    capture = operation(Ask, str)


order = Saga("order", str)


@order.compensable(policy=QUICK)
def reserve(run: str) -> Call[str]:
    return Stock.take(run)


@order.compensable(policy=QUICK)
def hold(run: str) -> Call[str]:
    return Bank.hold(run)


@order.pivot(hold, after=[reserve], policy=QUICK)
def capture(run: str, held: str) -> Call[str]:
    return Bank.capture(f"{run} captured")


@order.retriable(after=[capture], policy=QUICK)
def send(run: str) -> Call[str]:
    return Stock.take(f"{run} sent")


def is_refused(run: str) -> bool:
    """Every third order finds no money in the end."""
    return int(run.split("-")[1]) % 3 == 0


def table(path: Path) -> SqliteInbox:
    inbox = SqliteInbox(path)
    with inbox.transaction() as db:
        db.execute("create table if not exists effect (what text, change integer)")
    return inbox


def note(db: sqlite3.Connection, what: str, change: int) -> None:
    db.execute("insert into effect values (?, ?)", (what, change))


def stock(folder: Path) -> Service[sqlite3.Connection]:
    service = Service(Stock, table(folder / "stock.db"))

    @service.action(Stock.take)
    def take(request: Ask, db: sqlite3.Connection) -> str:
        note(db, request.what, 1)
        return request.what

    @service.compensation(Stock.take)
    def give_back(undo: Undo[Ask, str], db: sqlite3.Connection) -> None:
        note(db, undo.request.what, -1)

    return service


def bank(folder: Path) -> Service[sqlite3.Connection]:
    service = Service(Bank, table(folder / "bank.db"))

    @service.action(Bank.hold)
    def hold(request: Ask, db: sqlite3.Connection) -> str:
        note(db, request.what, 1)
        return request.what

    @service.compensation(Bank.hold)
    def unhold(undo: Undo[Ask, str], db: sqlite3.Connection) -> None:
        note(db, undo.request.what, -1)

    @service.action(Bank.capture)
    def capture(request: Ask, db: sqlite3.Connection) -> str:
        if is_refused(request.what.split(" ")[0]):
            raise Rejected("no money")
        note(db, request.what, 1)
        return request.what

    return service


def say(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def main(folder: Path, count: int) -> None:
    routes = [Stock.at(stock(folder)), Bank.at(bank(folder))]
    async with Orchestrator([order], log=f"sqlite:///{folder}/log.db", routes=routes, runs_max=50) as runs:
        say("open")

        async def one(run: str) -> None:
            started = await runs.start(order, run, id=run)
            say(f"started {run}")
            outcome = await started.outcome()
            expected = Compensated if is_refused(run) else Completed
            assert isinstance(outcome, expected), outcome

        await asyncio.gather(*(one(f"o-{i}") for i in range(count)))
    say("over")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
