"""The barrier without durability, for tests and for trying things out: rows and business data in one dictionary each.

It keeps the contract of the others, all of it: one transaction at a time, twins wait, and what isn't committed is
gone. Handlers may block or be awaited; they are given a dictionary of their own to keep business data in.
"""

import asyncio
import copy
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from amends.ports.inbox import LOCK_WAIT_SECONDS, Busy, NotSerializable, Row, TableMissing

MemoryData: TypeAlias = dict[str, Any]
"""Business data of a test: whatever can be copied deeply."""


@dataclass(slots=True)
class _Content:
    rows: dict[tuple[str, str], tuple[Row, int]] = field(default_factory=dict[tuple[str, str], tuple[Row, int]])
    purged_through: int = 0
    data: MemoryData = field(default_factory=dict[str, Any])

    def copied(self) -> "_Content":
        return _Content(dict(self.rows), self.purged_through, copy.deepcopy(self.data))


class MemoryInbox:
    """An inbox in memory. `data` is the committed business data: read it freely, write it in handlers."""

    def __init__(self, data: MemoryData | None = None, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        self._turn = _Turn(lock_wait_seconds)
        self._content = _Content(data={} if data is None else data)
        self._joinable: MemoryTransaction | None = None

    @property
    def data(self) -> MemoryData:
        """What is committed."""
        return self._content.data

    @contextmanager
    def open(self) -> Generator["MemoryTransaction", None, None]:
        self._turn.take()
        with self._opened() as tx:
            yield tx

    @asynccontextmanager
    async def open_async(self) -> AsyncGenerator["AsyncMemoryTransaction", None]:
        await self._turn.take_async()
        with self._opened() as tx:
            yield AsyncMemoryTransaction(tx)

    @contextmanager
    def transaction(self) -> Generator[MemoryData, None, None]:
        """A transaction for the service's own use: committed at the end, rolled back if an exception leaves it."""
        with self.open() as tx:
            yield tx.handle
            tx.commit()

    @contextmanager
    def _opened(self) -> Generator["MemoryTransaction", None, None]:
        tx = self._joinable = MemoryTransaction(self, self._content.copied())
        try:
            yield tx
        finally:
            self._joinable = None
            self._turn.pass_on()

    def join(self, handle: MemoryData, /) -> "MemoryTransaction":
        if self._joinable is None or handle is not self._joinable.handle:
            msg = "this is not the open transaction of this inbox"
            raise ValueError(msg)
        return self._joinable

    def join_async(self, handle: MemoryData, /) -> "AsyncMemoryTransaction":
        return AsyncMemoryTransaction(self.join(handle))

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        return None

    def replace(self, content: "_Content") -> None:
        """What a transaction made becomes what is."""
        self._content = content


class MemoryTransaction:
    """A copy of everything, put in place by `commit`."""

    def __init__(self, inbox: MemoryInbox, content: _Content) -> None:
        self._inbox = inbox
        self._content = content
        self._saved: _Content | None = None

    @property
    def handle(self) -> MemoryData:
        return self._content.data

    @property
    def tampered(self) -> bool:
        return False

    def insert(self, row: Row) -> bool:
        key = (row.run, row.step)
        if key in self._content.rows:
            return False
        self._content.rows[key] = (row, _now())
        return True

    def lock(self, run: str, step: str) -> Row | None:
        found = self._content.rows.get((run, step))
        return None if found is None else found[0]

    def read(self, run: str, step: str) -> Row | None:
        return self.lock(run, step)

    def update(self, row: Row) -> None:
        self._content.rows[row.run, row.step] = (row, _now())

    def delete(self, run: str, step: str) -> None:
        del self._content.rows[run, step]

    def purged_through(self) -> int:
        return self._content.purged_through

    def purge(self, age: int, limit: int) -> int:
        through = _now() - age
        self._content.purged_through = max(self._content.purged_through, through)
        old = [key for key, (_, touched) in self._content.rows.items() if touched < through][:limit]
        for key in old:
            del self._content.rows[key]
        return len(old)

    def savepoint(self) -> None:
        self._saved = self._content.copied()

    def release(self) -> bool:
        return True

    def roll_back(self) -> bool:
        assert self._saved is not None
        self._content = self._saved
        return True

    def commit(self) -> None:
        self._inbox.replace(self._content)


class AsyncMemoryTransaction:
    """`MemoryTransaction` for handlers that are awaited; nothing in it waits."""

    def __init__(self, inner: MemoryTransaction) -> None:
        self._inner = inner

    @property
    def handle(self) -> MemoryData:
        return self._inner.handle

    @property
    def tampered(self) -> bool:
        return self._inner.tampered

    async def insert(self, row: Row) -> bool:
        return self._inner.insert(row)

    async def lock(self, run: str, step: str) -> Row | None:
        return self._inner.lock(run, step)

    async def read(self, run: str, step: str) -> Row | None:
        return self._inner.read(run, step)

    async def update(self, row: Row) -> None:
        self._inner.update(row)

    async def delete(self, run: str, step: str) -> None:
        self._inner.delete(run, step)

    async def purged_through(self) -> int:
        return self._inner.purged_through()

    async def purge(self, age: int, limit: int) -> int:
        return self._inner.purge(age, limit)

    async def savepoint(self) -> None:
        self._inner.savepoint()

    async def release(self) -> bool:
        return self._inner.release()

    async def roll_back(self) -> bool:
        return self._inner.roll_back()

    async def commit(self) -> None:
        self._inner.commit()


class _Turn:
    """A lock that threads and tasks wait for in one queue, each for so long and no longer."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[Future[None]] = deque()

    def take(self) -> None:
        waiting = self._enter()
        if waiting is None:
            return
        try:
            waiting.result(self._patience_seconds)
        except FutureTimeoutError:
            self._leave(waiting)
            raise _busy() from None

    async def take_async(self) -> None:
        waiting = self._enter()
        if waiting is None:
            return
        try:
            async with asyncio.timeout(self._patience_seconds):
                await asyncio.wrap_future(waiting)
        except TimeoutError:
            self._leave(waiting)
            raise _busy() from None
        except asyncio.CancelledError:
            self._leave(waiting)
            raise

    def pass_on(self) -> None:
        with self._guard:
            while self._waiting:
                try:
                    self._waiting.popleft().set_result(None)
                except InvalidStateError:
                    continue  # it was cancelled while it waited
                return
            self._taken = False

    def _enter(self) -> Future[None] | None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return None
            waiting: Future[None] = Future()
            self._waiting.append(waiting)
            return waiting

    def _leave(self, waiting: Future[None]) -> None:
        if not waiting.cancel() and not waiting.cancelled():
            self.pass_on()  # it got its turn in the very moment it stopped waiting


def _busy() -> Busy:
    return Busy("another call has the inbox")


def _now() -> int:
    return time.time_ns() // 1_000
