"""What the suite of inboxes works with: a bench beside the inbox, a service over it, a gate to hold handlers at."""

import asyncio
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from amends.core.saga.operation import Participant, Undo, operation
from amends.core.words.errors import Later, Rejected
from amends.participant.response import Answer
from amends.participant.service import Service
from amends.ports.inbox import AsyncInbox, Inbox, Row
from amends.wire.this_call import this_call

T = TypeVar("T")
Tx = TypeVar("Tx")

PATIENCE_SECONDS: Final = 0.2
"""Benches make their inbox with this as its lock wait, so that being told to come back takes no two seconds."""

DEADLINE_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Reserve:
    """A request."""

    sku: str


@dataclass(frozen=True, slots=True)
class BenchReservation:
    """A reply."""

    id: str


class BenchStock(Participant):
    """The participant under test."""

    reserve = operation(Reserve, BenchReservation, compensation="release")


class Bench(ABC, Generic[Tx]):
    """An inbox with a table of business rows beside it."""

    inbox: Inbox[Tx] | AsyncInbox[Tx]
    refuses_commits = True
    """Whether a handler that commits is caught before it does harm."""

    @property
    def blocks(self) -> bool:
        """Whether handlers are to be plain functions."""
        return not isinstance(self.inbox, AsyncInbox)

    @abstractmethod
    async def put(self, tx: Tx, name: str) -> None:
        """Write a business row."""

    @abstractmethod
    async def take(self, tx: Tx, name: str) -> None:
        """Delete a business row."""

    @abstractmethod
    async def rows(self) -> list[str]:
        """Names of the committed business rows, as another session reads them."""

    @abstractmethod
    async def end(self, tx: Tx, how: str) -> None:
        """`commit` or `rollback`, as a handler must not."""

    @abstractmethod
    async def drop(self) -> None:
        """Take the barrier's tables away."""


Code = Callable[[Any, Any], Coroutine[Any, Any, Any]]


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    msg = "the bench of an inbox that blocks must not wait"
    raise AssertionError(msg)


@dataclass
class Shop(Generic[Tx]):
    """A service over the bench's inbox. `acts` and `undoes` are what the handlers do; tests replace them."""

    bench: Bench[Tx]
    runs: list[str] = field(default_factory=list[str])
    undone: list[Undo[Reserve, BenchReservation]] = field(default_factory=list[Undo[Reserve, BenchReservation]])

    def __post_init__(self) -> None:
        self.acts: Code = self.act
        self.undoes: Code = self.undo
        self.service: Service[Tx] = Service(BenchStock, self.bench.inbox, threads=8)

        async def reserve(request: Reserve, tx: Tx) -> BenchReservation:
            self.runs.append(this_call().key)
            made: BenchReservation = await self.acts(request, tx)
            return made

        async def release(undo: Undo[Reserve, BenchReservation], tx: Tx) -> None:
            self.undone.append(undo)
            await self.undoes(undo, tx)

        if self.bench.blocks:
            self.service.action(BenchStock.reserve)(lambda request, tx: at_once(reserve(request, tx)))
            self.service.compensation(BenchStock.reserve)(lambda undo, tx: at_once(release(undo, tx)))
        else:
            self.service.action(BenchStock.reserve)(reserve)
            self.service.compensation(BenchStock.reserve)(release)

    async def act(self, request: Reserve, tx: Tx) -> BenchReservation:
        """What `reserve` does unless told otherwise: one business row."""
        await self.bench.put(tx, this_call().run + this_call().item)
        return BenchReservation(f"made-{len(self.runs)}")

    async def undo(self, undo: Undo[Reserve, BenchReservation], tx: Tx) -> None:
        """What `release` does unless told otherwise: the row goes."""
        await self.bench.take(tx, this_call().run + this_call().item)

    async def call(
        self,
        phase: str,
        *,
        run: str = "run-1",
        body: bytes | None = None,
        kind: str = "compensable",
        since: datetime | None = None,
        **headers: str,
    ) -> Answer:
        """Send one call; everything has a default."""
        moment = datetime.now(UTC) if since is None else since
        given = {
            "Idempotency-Key": f'"{run}:reserve:{phase}"',
            "Saga-Kind": kind,
            "Saga-Since": moment.isoformat(),
            "Saga-Epoch": "1",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        name = "release" if phase == "compensation" else "reserve"
        return await self.service.handle(given, name, body or (UNDO if phase == "compensation" else BODY))

    async def row(self, run: str = "run-1") -> Row | None:
        """The barrier's row."""
        inbox = self.bench.inbox
        if isinstance(inbox, AsyncInbox):
            async with inbox.open_async() as tx:
                return await tx.read(run, "reserve")
        with inbox.open() as tx:
            return tx.read(run, "reserve")

    async def purge(self) -> None:
        """Everything is older than a second from now."""
        inbox = self.bench.inbox
        if isinstance(inbox, AsyncInbox):
            async with inbox.open_async() as tx:
                assert await tx.purge(-1_000_000, 100) >= 0
                await tx.commit()
            return
        with inbox.open() as tx:
            assert tx.purge(-1_000_000, 100) >= 0
            tx.commit()

    async def answer(
        self, reply: object, *, write: str = "answered", run: str = "run-1", phase: str = "action"
    ) -> Answer:
        """Answer a pending call in one transaction with a business row."""
        key = f"{run}:reserve:{phase}"
        inbox = self.bench.inbox
        if isinstance(inbox, AsyncInbox):
            async with inbox.open_async() as tx:
                await self.bench.put(tx.handle, write)
                said = await self.service.answer_async(tx.handle, key, reply)
                await tx.commit()
                return said
        with inbox.open() as tx:
            await self.bench.put(tx.handle, write)
            said = self.service.answer(tx.handle, key, reply)
            tx.commit()
            return said


BODY: Final = b'{"sku":"sku-1"}'
UNDO: Final = b'{"request":{"sku":"sku-1"},"reply":null,"reply_known":false,"reason":"hold said no"}'


def outcome(answer: Answer) -> tuple[int, str | None]:
    """Status and the contract's word."""
    return answer.status, answer.headers.get("saga-outcome")


def without_key(answer: Answer) -> Answer:
    """What a repeat of the call replays: the answer without the name of the call, which a callback needs."""
    return Answer(answer.status, {k: v for k, v in answer.headers.items() if k != "idempotency-key"}, answer.body)


def name_of_problem(answer: Answer) -> str:
    """The last part of its type."""
    assert answer.headers["content-type"] == "application/problem+json"
    return str(json.loads(answer.body)["type"]).removeprefix("urn:amends:")


async def later(*_: object) -> None:
    """A handler that answers later."""
    raise Later


async def refuses(*_: object) -> None:
    """A handler that says no."""
    raise Rejected("no", code="none-left")


class Gate:
    """Keeps an action inside its handler until it is opened; it works for threads and tasks alike."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the waiting calls go on."""
        self._opened.set()

    def around(self, shop: Shop[Tx]) -> Code:
        """An action that waits here, its writes done."""

        async def waits(request: Reserve, tx: Tx) -> BenchReservation:
            made = await shop.act(request, tx)
            self._entered.set()
            if shop.bench.blocks:
                assert self._opened.wait(DEADLINE_SECONDS)
            else:
                await _until(self._opened)
            return made

        return waits

    async def entered_by_somebody(self) -> None:
        """Wait until a handler is inside."""
        await _until(self._entered)


async def _until(event: threading.Event) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not event.is_set():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
