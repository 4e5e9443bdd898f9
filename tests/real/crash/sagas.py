"""The sagas that are killed, and the services they call: small, and every effect is a row in a real database.

Each service has a file of its own, with its barrier's rows beside its effects. An effect says when it happened, on the
machine's one monotonic clock, so that effects of different files can be put in order. Local steps keep theirs by key,
as a step that may be repeated has to.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from amends.core.run.record import RunState
from amends.core.saga.operation import Call, Participant, Route, Undo, operation
from amends.core.saga.saga import Saga
from amends.core.words.errors import Rejected
from amends.core.words.retry import Policy, Retry
from amends.inboxes.sqlite import SqliteInbox
from amends.participant.service import Service
from amends.wire.this_call import this_call

QUICK: Final = Policy(retry=Retry(attempts_max=None, first=timedelta(milliseconds=10), cap=timedelta(milliseconds=50)))

EFFECTS: Final = """
create table if not exists effect
(key text not null, run text not null, step text not null, item text not null, phase text not null, at integer not null)
"""

Passing = Callable[[str], None]
"""Told of every place that work passes, by name; a process may die there."""


@dataclass(frozen=True, slots=True)
class Order:
    """`lacks`: which step is refused, if any. `workshop`: the file of the local steps' effects, beside the log."""

    workshop: str
    lacks: str = ""

    def ask(self, what: str) -> "Ask":
        return Ask(what, is_to_be_had=what != self.lacks)


@dataclass(frozen=True, slots=True)
class Ask:
    what: str
    is_to_be_had: bool


class Stock(Participant):
    take = operation(Ask, str, compensation="give-back")


class Bank(Participant):
    charge = operation(Ask, str, compensation="refund")
    capture = operation(Ask, str)


class Post(Participant):
    schedule = operation(Ask, str, compensation="cancel")
    tell = operation(Ask, str)


# -- services


def note(db: sqlite3.Connection) -> None:
    """What is being done really happens: here, with this row."""
    call = this_call()
    values = (call.key, call.run, call.step, call.item, call.phase, time.monotonic_ns())
    db.execute("insert into effect values (?, ?, ?, ?, ?, ?)", values)


class Shop:
    """The three services in this process, on their files in `folder`; `passing` is told when work is half done."""

    def __init__(self, folder: Path, passing: Passing) -> None:
        def act(request: Ask, db: sqlite3.Connection) -> str:
            if not request.is_to_be_had:
                raise Rejected(f"{request.what} is not to be had")
            note(db)
            passing("in-work")
            return request.what

        def undo(undo: Undo[Ask, str], db: sqlite3.Connection) -> None:
            note(db)
            passing("in-work")

        self._inboxes = {name: inbox(folder / f"{name}.db") for name in ("stock", "bank", "post")}
        stock = Service(Stock, self._inboxes["stock"], threads=2)
        stock.action(Stock.take)(act)
        stock.compensation(Stock.take)(undo)
        bank = Service(Bank, self._inboxes["bank"], threads=2)
        bank.action(Bank.charge)(act)
        bank.compensation(Bank.charge)(undo)
        bank.action(Bank.capture)(act)
        post = Service(Post, self._inboxes["post"], threads=2)
        post.action(Post.schedule)(act)
        post.compensation(Post.schedule)(undo)
        post.action(Post.tell)(act)
        self.services: Mapping[str, Service[sqlite3.Connection]] = {"stock": stock, "bank": bank, "post": post}

    def routes(self) -> list[Route]:
        return [each.at(self.services[name]) for name, each in (("stock", Stock), ("bank", Bank), ("post", Post))]

    def close(self) -> None:
        for each in self._inboxes.values():
            each.close()


def inbox(path: Path) -> SqliteInbox:
    made = SqliteInbox(path)
    with made.transaction() as db:
        db.execute(EFFECTS)
    return made


def by_key(workshop: str) -> None:
    """The work of a local step: once per key, however often it is asked for."""
    with closing(sqlite3.connect(workshop, isolation_level=None)) as db:
        db.execute("begin immediate")
        db.execute(EFFECTS)
        if db.execute("select 1 from effect where key = ?", (this_call().key,)).fetchone() is None:
            note(db)
        db.execute("commit")


# -- sagas

parallel = Saga("parallel", Order)


@parallel.compensable(policy=QUICK)
def reserve(order: Order) -> Call[str]:
    return Stock.take.of(order.ask("reserve"))


@parallel.compensable(policy=QUICK)
def charge(order: Order) -> Call[str]:
    return Bank.charge.of(order.ask("charge"))


@parallel.compensable(reserve, after=[charge], policy=QUICK)
def schedule(order: Order, reserved: str) -> Call[str]:
    return Post.schedule.of(order.ask("schedule"))


turning = Saga("turning", Order)


@turning.compensable(policy=QUICK)
def hold(order: Order) -> Call[str]:
    return Bank.charge.of(order.ask("hold"))


@turning.compensable(hold, policy=QUICK)
def gather(order: Order, held: str) -> dict[str, Call[str]]:
    return {name: Stock.take.of(order.ask(name)) for name in ("left", "right")}


@turning.pivot(hold, after=[gather], policy=QUICK)
def capture(order: Order, held: str) -> Call[str]:
    return Bank.capture.of(order.ask("capture"))


@turning.retriable(after=[capture], policy=QUICK)
def send(order: Order) -> Call[str]:
    return Post.schedule.of(order.ask("send"))


@turning.retriable(after=[capture], policy=QUICK)
def tell(order: Order) -> Call[str]:
    return Post.tell.of(order.ask("tell"))


chain = Saga("chain", Order)


@chain.compensable(policy=QUICK)
def first(order: Order) -> Call[str]:
    return Stock.take.of(order.ask("first"))


@chain.compensable(first, policy=QUICK)
def second(order: Order, taken: str) -> Call[str]:
    return Bank.charge.of(order.ask("second"))


@chain.compensable(second, policy=QUICK)
def third(order: Order, charged: str) -> Call[str]:
    return Post.schedule.of(order.ask("third"))


local = Saga("local", Order)


@local.compensable(policy=QUICK)
async def cut(order: Order) -> str:
    by_key(order.workshop)
    return "cut"


@cut.compensation
async def uncut(order: Order, reply: str | None) -> None:
    by_key(order.workshop)


@local.compensable(cut, policy=QUICK)
async def glue(order: Order, piece: str) -> str:
    by_key(order.workshop)
    return "glued"


@glue.compensation
async def unglue(order: Order, reply: str | None) -> None:
    by_key(order.workshop)


@local.compensable(glue, policy=QUICK)
def collect(order: Order, thing: str) -> Call[str]:
    return Post.schedule.of(order.ask("collect"))


@local.compensable(collect, policy=QUICK)
def weigh(order: Order, collected: str) -> Call[str]:
    return Stock.take.of(order.ask("weigh"))


@dataclass(frozen=True, slots=True)
class Case:
    """A run: which saga, what it lacks, how it has to end."""

    saga: Saga[Order]
    lacks: str
    end: RunState


CASES: Final = {
    "parallel": Case(parallel, "", RunState.COMPLETED),
    "pivot-and-retriables": Case(turning, "", RunState.COMPLETED),
    "refused-at-the-third": Case(chain, "third", RunState.COMPENSATED),
    "pivot-refused": Case(turning, "capture", RunState.COMPENSATED),
    "local": Case(local, "", RunState.COMPLETED),
    "local-refused": Case(local, "weigh", RunState.COMPENSATED),
}
